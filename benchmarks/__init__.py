"""Programs for `make demo`, `make pictures` and `make bench`."""
