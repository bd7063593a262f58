"""What a run leaves behind: its folder, checkpoints, TensorBoard events, grids and progress."""
