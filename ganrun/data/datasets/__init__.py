"""Data sets: images and labels by index, one file a family. Makes no batches: that is `data/sources`."""
