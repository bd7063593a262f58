"""Real images, from files to batches: readers, transforms, data sets and sources. Knows no network and no trick."""
