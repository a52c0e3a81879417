"""Tasks, parts, byte budgets and hashes of byte streams."""
