"""Work on all content of a storage: copy it, verify it, remove leftovers, and check the store."""

from lakery_cloud.maintenance.checks import Outcome
from lakery_cloud.maintenance.collect import DEFAULT_GRACE, CollectJob, Fate, restore_quarantined, store_time
from lakery_cloud.maintenance.copy import COPIES_AT_A_TIME, CopyJob, copied_of, copy
from lakery_cloud.maintenance.costs import JOBS, PRICES, Estimate, Prices, estimate, price_of, requests_of_collection
from lakery_cloud.maintenance.doctor import CHECKS, Finding, diagnose
from lakery_cloud.maintenance.inventories import Inventory, read_inventory
from lakery_cloud.maintenance.jobs import Engine, Job, run_job, total
from lakery_cloud.maintenance.known_checksums import KnownChecksums
from lakery_cloud.maintenance.lifecycle import (
    DEFAULT_DAYS,
    HasLifecycle,
    apply_lifecycle,
    lifecycle_rules,
)
from lakery_cloud.maintenance.live import LiveSet, live_set
from lakery_cloud.maintenance.manifest import Manifest
from lakery_cloud.maintenance.shards import Listing, Shard, ShardResult, plan
from lakery_cloud.maintenance.sources import checksums_of_file
from lakery_cloud.maintenance.stock import CompareJob, Difference, InventoryJob
from lakery_cloud.maintenance.sweep import (
    DEFAULT_AGE,
    Leftover,
    leftovers,
    sweep,
)
from lakery_cloud.maintenance.transfers import Copied, CopyOutcome
from lakery_cloud.maintenance.verify import (
    READS_AT_A_TIME,
    Problem,
    Verified,
    VerifyJob,
    verify,
)

__all__ = [
    "CHECKS",
    "COPIES_AT_A_TIME",
    "DEFAULT_AGE",
    "DEFAULT_DAYS",
    "DEFAULT_GRACE",
    "JOBS",
    "PRICES",
    "READS_AT_A_TIME",
    "CollectJob",
    "CompareJob",
    "Copied",
    "CopyJob",
    "CopyOutcome",
    "Difference",
    "Engine",
    "Estimate",
    "Fate",
    "Finding",
    "HasLifecycle",
    "Inventory",
    "InventoryJob",
    "Job",
    "KnownChecksums",
    "Leftover",
    "Listing",
    "LiveSet",
    "Manifest",
    "Outcome",
    "Prices",
    "Problem",
    "Shard",
    "ShardResult",
    "Verified",
    "VerifyJob",
    "apply_lifecycle",
    "checksums_of_file",
    "copied_of",
    "copy",
    "diagnose",
    "estimate",
    "leftovers",
    "lifecycle_rules",
    "live_set",
    "plan",
    "price_of",
    "read_inventory",
    "requests_of_collection",
    "restore_quarantined",
    "run_job",
    "store_time",
    "sweep",
    "total",
    "verify",
]
