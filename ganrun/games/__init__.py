"""The rules by which networks meet."""
