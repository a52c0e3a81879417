"""What the requests of a job cost, and how long it takes: sums over request prices and rates that you give.

The prices here are examples for one region and the class of frequent access, without discounts, free quotas, transfer out
of the region and retrieval from colder classes. Yours are on the pages of the providers.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

from lakery_cloud.errors import ConfigError
from lakery_cloud.maintenance.collect import Fate

PER = 1000
"""Prices are for so many requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Prices in US dollars for a thousand requests.

    Attributes:
        list: A page of a listing.
        read: A read of an object, or of its description.
        write: A put, or a copy inside the store.
        delete: A deletion.
        page: Objects in a page of a listing.
    """

    list: float
    read: float
    write: float
    delete: float = 0
    page: int = 1000

    def __post_init__(self) -> None:
        if min(self.list, self.read, self.write, self.delete) < 0 or self.page < 1:
            raise ConfigError("a price is at least 0, and a page has at least 1 object")


PRICES: Mapping[str, Prices] = MappingProxyType(
    {
        # aws.amazon.com/s3/pricing, S3 Standard, US East (N. Virginia).
        "s3": Prices(list=0.005, read=0.0004, write=0.005),
        # cloud.google.com/storage/pricing, Standard storage in a region: class A, class B.
        "gs": Prices(list=0.005, read=0.0004, write=0.005),
        # learn.microsoft.com, "Estimate the cost of using Azure Blob Storage", sample prices of the hot tier.
        "az": Prices(list=0.0055, read=0.00044, write=0.0055, page=5000),
    }
)
"""Example prices by the scheme of storage URLs."""

JOBS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "verify": {"read": 1, "list": 1},
        "verify, inventory": {"read": 1},
        "copy to another provider": {"list": 1, "read": 1, "write": 1},
        "copy inside a provider": {"list": 1, "write": 1},
        "inventory": {"list": 1},
        "gc, nothing to collect": {"list": 1},
        "gc, all to quarantine": {"list": 1, "write": 1, "delete": 1},
        "gc, all deleted from quarantine": {"list": 1, "read": 2, "delete": 1},
    }
)
"""Job -> requests for each object, counted by tests; `list` for each of a page."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job sends, costs and takes.

    Attributes:
        requests: Number of requests by kind: `list`, `read`, `write` and `delete`.
        dollars: Their price.
        duration: How long it takes, if a rate is known.
    """

    requests: Mapping[str, int]
    dollars: float
    duration: timedelta | None = None


def estimate(
    job: str, objects: int, *, prices: Prices, objects_per_second: float | None = None, processes: int = 1
) -> Estimate:
    """Estimate a job.

    Args:
        job: One of `JOBS`.
        objects: Number of objects.
        prices: Prices of requests.
        objects_per_second: The rate of one process, which you have measured where it will run.
        processes: Number of processes.

    Raises:
        ConfigError: The job is unknown, or a number is negative.
    """
    if job not in JOBS:
        raise ConfigError(f"unknown job {job!r}; known are {', '.join(JOBS)}")
    if objects < 0 or processes < 1 or (objects_per_second is not None and objects_per_second <= 0):
        raise ConfigError("the number of objects, processes and objects a second must be positive")
    each = JOBS[job]
    requests = Counter({kind: round(objects * number) for kind, number in each.items()})
    if "list" in requests:
        requests["list"] = -(-requests["list"] // prices.page)
    seconds = None if objects_per_second is None else objects / (objects_per_second * processes)
    return Estimate(requests, price_of(requests, prices), None if seconds is None else timedelta(seconds=seconds))


def price_of(requests: Mapping[str, int], prices: Prices) -> float:
    """The price of requests in US dollars."""
    return sum(float(getattr(prices, kind)) * number / PER for kind, number in requests.items())


def requests_of_collection(
    counts: Mapping[str, int], *, page: int, quarantine: bool = True, has_inventory: bool = False
) -> Counter[str]:
    """About the requests of a garbage collection that does what a dry run has counted.

    Objects that are copied in parts need more.

    Args:
        counts: The sum of the dry run's counts.
        page: Objects in a page of a listing.
        quarantine: Whether content goes into quarantine before it is deleted.
        has_inventory: Whether an inventory lists the content.
    """
    number = Counter(counts)
    moved, deleted, restored = number[Fate.QUARANTINED], number[Fate.DELETED], number[Fate.RESTORED]
    in_quarantine = number["waiting"] + restored + number[Fate.TIDIED] + (deleted if quarantine else 0)
    lists = [in_quarantine] if has_inventory else [in_quarantine, number["objects"]]
    return Counter(
        list=sum(max(1, -(-each // page)) for each in lists),
        read=in_quarantine + deleted + (moved if has_inventory else 0),
        write=moved + restored,
        delete=moved + deleted + number[Fate.TIDIED],
    )
