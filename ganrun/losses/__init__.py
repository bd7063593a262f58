"""Adversarial losses, one family a file: scores in, one number out. Knows no network and no trick."""
