"""Work on all that a storage holds: finding and removing what was left behind."""

from lakery_cloud.maintenance.sweep import DEFAULT_AGE, Leftover, leftovers, sweep

__all__ = ["DEFAULT_AGE", "Leftover", "leftovers", "sweep"]
