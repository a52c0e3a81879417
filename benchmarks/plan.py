"""What `make bench` measures without options: which work, under which conditions, how often."""

from dataclasses import dataclass

from benchmarks.null_server import Conditions

CONDITIONS = {
    "plain": Conditions(),
    "tls": Conditions(tls=True),
    "network": Conditions(latency=20, rate=100),
}


@dataclass(frozen=True)
class Step:
    """Workloads that are measured in the same way.

    Attributes:
        api: Which API.
        condition: Name of the conditions.
        rounds: Turns of each peer, fewer where one takes long.
        workloads: Names of the workloads.
    """

    api: str
    condition: str
    rounds: int
    workloads: tuple[str, ...]


OF_SDKS = ("puts", "gets", "streams", "write-256", "read-256")

PLAN = (
    Step("s3", "plain", 5, ("puts", "hits", "gets", "streams")),
    Step("s3", "plain", 9, ("read", "read-verified")),  # a turn is short, and one best peer of nine is chosen
    Step("s3", "plain", 3, ("write",)),
    Step("s3", "plain", 2, ("many",)),
    Step("s3", "tls", 5, ("puts", "streams")),
    Step("s3", "tls", 3, ("write",)),
    Step("s3", "network", 3, ("puts-at-256", "write-256", "read-256")),
    Step("gcs", "plain", 3, OF_SDKS),
    Step("azure", "plain", 3, OF_SDKS),
)
