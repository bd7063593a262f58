"""Batch sources: a data set drawn as shuffled batches, resident on the device or streamed by workers."""
