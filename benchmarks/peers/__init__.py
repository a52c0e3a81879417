"""One file for each compared client library."""
