"""Measures of samples, one question a file. Reads images and networks; changes neither."""
