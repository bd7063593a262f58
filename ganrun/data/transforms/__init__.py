"""Making images fit: size, channels, value range, choice of classes. Arrays in, arrays out; reads no file."""
