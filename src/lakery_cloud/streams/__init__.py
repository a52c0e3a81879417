"""Tasks, parts, byte budgets and hashes of streams. It knows no storage."""
