"""Every storage on every server that can show it: the rigs, and the one table of pairs (`tests.rigs.pairs`)."""
