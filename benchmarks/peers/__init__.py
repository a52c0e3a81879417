"""One file for each client library that is compared; each runs in an environment of its own."""
