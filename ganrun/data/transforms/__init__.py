"""Functions of arrays: resolution, channels, value range, selection of classes. Read no file."""
