"""The command line: reads what was typed, calls `run`, prints. Nothing here builds or trains; nothing imports it."""
