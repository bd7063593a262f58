"""What a run leaves: folder, checkpoints, TensorBoard events, grids. Writes what it is given; trains nothing."""
