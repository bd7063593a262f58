"""Games: which networks meet, on which data, what each player minimises. Knows no architecture, loss or trick."""
