"""Data sets: images and labels by index. One file a family; batches are made in `data/sources`."""
