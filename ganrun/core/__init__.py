"""The contest itself. Knows no model, loss, trick or data set by name."""
