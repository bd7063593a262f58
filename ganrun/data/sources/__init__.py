"""Batch sources: shuffled batches of a data set, resident on the device or streamed. Reads no file itself."""
