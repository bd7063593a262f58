"""How good samples are, one question a file."""
