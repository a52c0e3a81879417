"""Work on all that a storage holds: copying it, finding what was left behind, and what is not what it should be."""

from lakery_cloud.maintenance.copy import COPIES_AT_A_TIME, Copied, CopyOutcome, copy
from lakery_cloud.maintenance.lifecycle import DEFAULT_DAYS, HasLifecycle, apply_lifecycle, lifecycle_rules
from lakery_cloud.maintenance.sweep import DEFAULT_AGE, Leftover, leftovers, sweep
from lakery_cloud.maintenance.verify import READS_AT_A_TIME, Problem, Verified, verify

__all__ = [
    "COPIES_AT_A_TIME",
    "DEFAULT_AGE",
    "DEFAULT_DAYS",
    "READS_AT_A_TIME",
    "Copied",
    "CopyOutcome",
    "HasLifecycle",
    "Leftover",
    "Problem",
    "Verified",
    "apply_lifecycle",
    "copy",
    "leftovers",
    "lifecycle_rules",
    "sweep",
    "verify",
]
