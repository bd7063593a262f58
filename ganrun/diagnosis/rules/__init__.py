"""One class for each failure that a run may show. Reads what was logged, and never a network or a file."""
