"""Data: where real images come from, and in which order a run meets them."""
