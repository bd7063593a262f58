"""One class for each failure that a run may show, and the order in which they are told."""
