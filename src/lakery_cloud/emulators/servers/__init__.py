"""One module for each local server."""
