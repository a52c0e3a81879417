"""The `lakery-cloud` command: it parses, asks the library, and prints. No rule of storage lives here."""
