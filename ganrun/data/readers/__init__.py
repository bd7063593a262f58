"""Reading files: bytes to arrays and headers. Knows no data set; nothing that is read can run code."""
