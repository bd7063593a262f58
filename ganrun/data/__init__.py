"""Real images: bytes to `Batch`. Readers, transforms, data sets and batch sources; knows no network and no trick."""
