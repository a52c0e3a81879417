"""Work on all content of a storage: copy it, verify it, remove leftovers, and check the store."""

from lakery_cloud.maintenance.checks import Outcome
from lakery_cloud.maintenance.copy import (
    COPIES_AT_A_TIME,
    Copied,
    CopyOutcome,
    copy,
)
from lakery_cloud.maintenance.doctor import CHECKS, Finding, diagnose
from lakery_cloud.maintenance.lifecycle import (
    DEFAULT_DAYS,
    HasLifecycle,
    apply_lifecycle,
    lifecycle_rules,
)
from lakery_cloud.maintenance.sweep import (
    DEFAULT_AGE,
    Leftover,
    leftovers,
    sweep,
)
from lakery_cloud.maintenance.verify import (
    READS_AT_A_TIME,
    Problem,
    Verified,
    verify,
)

__all__ = [
    "CHECKS",
    "COPIES_AT_A_TIME",
    "DEFAULT_AGE",
    "DEFAULT_DAYS",
    "READS_AT_A_TIME",
    "Copied",
    "CopyOutcome",
    "Finding",
    "HasLifecycle",
    "Leftover",
    "Outcome",
    "Problem",
    "Verified",
    "apply_lifecycle",
    "copy",
    "diagnose",
    "leftovers",
    "lifecycle_rules",
    "sweep",
    "verify",
]
