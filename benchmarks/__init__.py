"""Programs that show what lakery-cloud does: `make demo`."""
