"""Targets, and the figures that a run reached."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.peers.catalog import BEFORE, LOOP_ALONE, LOOP_AND_HASH, LOOP_BLOCKS, LOOP_TEMPORARY, NO_CLIENTS, OURS
from benchmarks.workloads import BY_NAME

SEQUENTIAL = ("labox", "aioboto3", "s3fs")
"""Clients that transfer one part after the other."""

Key = tuple[str, str, str, str]


class Measured:
    """The figures of a run.

    Args:
        results: The entries of a results file.
    """

    def __init__(self, results: Iterable[Mapping[str, Any]]) -> None:
        self.results = [*results]
        self._turns: dict[Key, list[dict[str, Any]]] = {
            (entry["api"], entry["condition"], entry["workload"], entry["peer"]): entry["turns"]
            for entry in self.results
        }

    def values(self, api: str, condition: str, workload: str, peer: str, measure: str) -> list[float]:
        """Return a figure of each turn that succeeded."""
        turns = self._turns.get((api, condition, workload, peer), [])
        return [figure(turn, workload, measure) for turn in turns if "error" not in turn]

    def median(self, api: str, condition: str, workload: str, peer: str, measure: str) -> float | None:
        """Return the median of a figure, or None if every turn failed."""
        values = self.values(api, condition, workload, peer, measure)
        return statistics.median(values) if values else None

    def ratios(
        self, api: str, condition: str, workload: str, peer: str, measure: str = "rate", by: str = OURS
    ) -> list[float]:
        """Return the figure of a client, by default ours, divided by another client's, turn by turn."""
        pairs = zip(
            self._turns.get((api, condition, workload, by), []),
            self._turns.get((api, condition, workload, peer), []),
            strict=False,
        )
        return [
            figure(own, workload, measure) / figure(other, workload, measure)
            for own, other in pairs
            if "error" not in own and "error" not in other
        ]

    def best_of(self, place: tuple[str, str, str], peers: Sequence[str], measure: str = "rate") -> str | None:
        """Return the best of some clients by a figure; of all other clients if none are named.

        One that failed in half of its turns or more is none of them: the rest may be the easy ones.
        """
        found = [
            (median if measure == "rate" else -median, name)
            for (*where, name), turns in self._turns.items()
            if (*where,) == place
            and (name in peers if peers else not name.startswith((OURS, *NO_CLIENTS)))
            and 2 * sum("error" not in turn for turn in turns) > len(turns)
            and (median := self.median(*place, name, measure)) is not None
        ]
        return max(found)[1] if found else None


def figure(turn: Mapping[str, Any], workload: str, measure: str) -> float:
    """Return a figure of a turn.

    Args:
        turn: Its measurements.
        workload: Name of the workload.
        measure: `rate` (operations or MB a second), `cpu` (client milliseconds per operation), `peak` (MB of memory),
            `busy` (CPU share of the client), `server` (CPU share of the server).
    """
    if measure == "rate":
        size = turn.get("size", BY_NAME[workload].size)
        scale = size / 1e6 if BY_NAME[workload].is_large else 1
        return float(turn["operations"] / turn["seconds"] * scale)
    if measure == "cpu":
        return float(turn["cpu"] / turn["operations"] * 1000)
    if measure == "peak":
        return float(turn["peak"] / 1e6)
    return float(turn["cpu" if measure == "busy" else "server cpu"] / turn["seconds"])


@dataclass(frozen=True)
class Target:
    """A bound.

    Attributes:
        api: Which API.
        condition: Which conditions.
        workload: Which workload.
        bound: The target.
        peers: Clients whose best figure is compared; `*` is any other client; none means that the bound is absolute.
        measure: Which figure.
        is_least: Whether the bound is a minimum; else a maximum.
        other: Another workload of the same client to compare with.
        limit: A client that does less, and so shows what limits the figure. It is compared in the same way.
        limit_of: What that client is compared with, if not with the same one as lakery-cloud is.
        by: Which of our clients is measured: lakery-cloud with its defaults, or with other settings.
    """

    api: str
    condition: str
    workload: str
    bound: float
    peers: tuple[str, ...] = ()
    measure: str = "rate"
    is_least: bool = True
    other: str | None = None
    limit: str | None = None
    limit_of: str | None = None
    by: str = OURS

    def reached(self, measured: Measured) -> tuple[float, str] | None:
        """Return the figure that our client reached and the compared one, or None if either was not measured."""
        place = (self.api, self.condition, self.workload)
        if self.other is not None:
            own = measured.median(*place, self.by, self.measure)
            other = measured.median(self.api, self.condition, self.other, self.by, self.measure)
            return (own / other, "") if own and other else None
        if not self.peers:
            own = measured.median(*place, self.by, self.measure)
            return (own, "") if own is not None else None
        peer = measured.best_of(place, () if self.peers == ("*",) else self.peers, self.measure)
        ratios = measured.ratios(*place, peer, self.measure, self.by) if peer else []
        return (statistics.median(ratios), str(peer)) if ratios else None

    def is_met(self, reached: float) -> bool:
        """Whether that is enough."""
        return reached >= self.bound if self.is_least else reached <= self.bound


def _cpu(api: str, workload: str, bound: float, *peers: str, **more: Any) -> Target:
    return Target(api, "plain", workload, bound, peers, measure="cpu", is_least=False, **more)


def _memory(api: str, condition: str, workload: str, bound: float) -> Target:
    return Target(api, condition, workload, bound, measure="peak", is_least=False)


OBSTORE = ("obstore",)
UPLOAD_FILE = ("boto3", "s3transfer-crt", "awscrt")
"""Clients whose `upload_file` transfers the parts of a file at the same time."""
SDKS_OF_GCS = ("gcsfs", "google-cloud-storage", "gcloud-aio-storage")
SDKS_OF_AZURE = ("adlfs", "azure-storage-blob")

TARGETS = (
    Target("s3", "network", "write-256", 1.1, OBSTORE, limit=LOOP_TEMPORARY),
    Target("s3", "network", "write-256", 1.0, ("awscrt",), limit=LOOP_TEMPORARY),
    Target("s3", "network", "write-256", 3, SEQUENTIAL),
    _memory("s3", "network", "write-256", 110),
    Target("s3", "network", "write-file", 1.3, (f"{OURS}-no-digest",), limit=LOOP_AND_HASH, limit_of=LOOP_TEMPORARY),
    Target("s3", "network", "write-file", 1.0, UPLOAD_FILE, limit=LOOP_AND_HASH),
    Target("s3", "network", "read-256", 1.0, (f"{OURS}-ranges",)),
    Target("s3", "network", "read-256", 3, SEQUENTIAL),
    Target("s3", "network", "puts-at-256", 0.85, measure="busy"),
    Target("s3", "plain", "puts", 1.0, OBSTORE, limit=LOOP_ALONE),
    Target("s3", "plain", "puts", 15, ("labox",)),
    _cpu("s3", "puts", 1.0, "obstore", limit=LOOP_ALONE),
    Target("s3", "plain", "gets", 0.9, OBSTORE, limit=LOOP_ALONE),
    Target("s3", "plain", "gets", 10, ("labox",)),
    _cpu("s3", "gets", 1.0, "obstore"),
    Target("s3", "plain", "hits", 1.0, other="puts", limit=LOOP_ALONE),
    Target("s3", "plain", "puts", 0.87, (f"{OURS}-registry",), measure="cpu"),  # 1 / 1.15
    Target("s3", "plain", "streams", 0.6, OBSTORE),
    Target("s3", "plain", "streams", 10, ("labox",)),
    Target("s3", "plain", "write", 1.0, OBSTORE, limit=LOOP_AND_HASH),
    Target("s3", "plain", "write", 3, ("labox",)),
    _memory("s3", "plain", "write", 150),
    Target("s3", "plain", "read-verified", 0.85, ("sha256-alone",), limit=LOOP_AND_HASH),
    Target("s3", "plain", "read", 0.95, ("*",), limit=LOOP_ALONE),
    Target("s3", "tls", "puts", 0.6, OBSTORE),
    Target("s3", "tls", "puts", 15, ("labox",)),
    Target("s3", "tls", "write", 1.15, OBSTORE, limit=LOOP_AND_HASH),
    Target("s3", "tls", "write", 2.6, ("labox",), limit=LOOP_AND_HASH),
    _memory("s3", "tls", "write", 200),
    Target("gcs", "plain", "puts", 0.95, OBSTORE, limit=LOOP_ALONE),
    Target("gcs", "plain", "gets", 0.85, OBSTORE, limit=LOOP_ALONE),
    Target("gcs", "plain", "write-256", 1.0, OBSTORE, limit=LOOP_TEMPORARY),
    _cpu("gcs", "puts", 0.9, "gcsfs"),
    _cpu("gcs", "gets", 0.9, "gcsfs"),
    _cpu("gcs", "streams", 1.0, *SDKS_OF_GCS),
    _cpu("gcs", "write-256", 1.0, *SDKS_OF_GCS),
    _cpu("gcs", "read-256", 1.0, *SDKS_OF_GCS),
    _memory("gcs", "plain", "write-256", 150),
    Target("gcs", "network", "write-256", 1.0, OBSTORE, limit=LOOP_TEMPORARY),
    Target("gcs", "network", "write-256", 1.0, OBSTORE, by=f"{OURS}-composite"),
    Target("gcs", "network", "read-256", 1.0, OBSTORE),
    Target("azure", "plain", "puts", 0.95, OBSTORE, limit=LOOP_ALONE),
    Target("azure", "plain", "gets", 0.85, OBSTORE, limit=LOOP_ALONE),
    Target("azure", "plain", "streams", 0.9, OBSTORE, limit=LOOP_ALONE),
    Target("azure", "plain", "write-256", 1.0, OBSTORE, limit=LOOP_TEMPORARY),
    _cpu("azure", "puts", 0.5, "adlfs"),
    _cpu("azure", "gets", 0.5, "adlfs"),
    _cpu("azure", "streams", 1.0, *SDKS_OF_AZURE),
    _cpu("azure", "write-256", 1.0, *SDKS_OF_AZURE),
    _cpu("azure", "read-256", 1.0, *SDKS_OF_AZURE),
    _memory("azure", "plain", "write-256", 150),
    Target("azure", "network", "write-256", 1.0, OBSTORE, limit=LOOP_TEMPORARY),
    Target("azure", "network", "write-256", 1.0, OBSTORE, by=f"{OURS}-blocks", limit=LOOP_BLOCKS),
    Target("azure", "network", "read-256", 1.0, OBSTORE),
    _cpu("start", "help", 0.6, BEFORE),
    _cpu("start", "put-to-folder", 0.6, BEFORE),
    _cpu("start", "first-put", 1.1, "boto3"),
)

UNITS = {"rate": "x", "cpu": "x the CPU", "peak": " MB of memory", "busy": " of the time on the CPU"}


def rows(measured: Measured, targets: Iterable[Target] = TARGETS) -> list[tuple[str, str, str, str, str]]:
    """Return a row of each target: the measured figure, the target, the reached value, whether it is met, and the limit."""
    return [_row(target, measured) for target in targets]


def _row(target: Target, measured: Measured) -> tuple[str, str, str, str, str]:
    what = f"{target.api}, {target.condition}: {BY_NAME[target.workload].title}"
    if target.by != OURS:
        what += f", {target.by}"
    unit = UNITS[target.measure]
    sign = "≥" if target.is_least else "≤"
    beside = " or ".join(target.peers).replace("*", "the best other client")
    if target.other is not None:
        beside = BY_NAME[target.other].title
    aimed = f"{sign} {target.bound:g}{unit}" + (f" of {beside}" if beside else "")
    reached = target.reached(measured)
    if reached is None:
        return what, aimed, "", "not measured", ""
    value, peer = reached
    named = f" ({peer})" if len(target.peers) > 1 or target.peers == ("*",) else ""
    is_met = target.is_met(value)
    limits = [] if is_met else _limits(target, measured, peer)
    return what, aimed, f"{_shown(value)}{unit}{named}", "met" if is_met else "**missed**", "; ".join(limits)


def _limits(target: Target, measured: Measured, peer: str) -> list[str]:
    """What limits a target that was missed: a client that does less, and the cores that each client kept busy."""
    limits = []
    compared = replace(target, peers=(target.limit_of,)) if target.limit_of else target
    if target.limit and (limit := replace(compared, by=target.limit).reached(measured)):
        beside = f" of {target.limit_of}" if target.limit_of else ""
        limits.append(f"{target.limit}: {_shown(limit[0])}{UNITS[target.measure]}{beside}")
    if target.measure == "rate" and target.other is None:
        place = (target.api, target.condition, target.workload)
        cores = {name: measured.median(*place, name, "busy") for name in (target.by, peer)}
        limits.append("cores in use: " + ", ".join(f"{name} {busy:.2f}" for name, busy in cores.items() if busy))
    return limits


def _shown(value: float) -> str:
    return f"{value:.0f}" if value >= 20 else f"{value:.2f}"
