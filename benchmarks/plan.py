"""The workloads, conditions and rounds of `make bench` without options."""

from dataclasses import dataclass

from benchmarks.null_server import Conditions

CONDITIONS = {
    "plain": Conditions(),
    "tls": Conditions(tls=True),
    "network": Conditions(latency=20, rate=100, copy_rate=200),
}


@dataclass(frozen=True)
class Step:
    """Workloads with the same API, condition and number of rounds.

    Attributes:
        api: Which API.
        condition: Name of the conditions.
        rounds: Turns of each client; fewer for long turns.
        workloads: Names of the workloads.
    """

    api: str
    condition: str
    rounds: int
    workloads: tuple[str, ...]


OVER_A_NETWORK = ("puts-at-256", "gets-at-256", "hits-at-256", "write-256", "write-file", "read-256")
OF_SDKS = ("puts", "gets", "streams", "write-256", "read-256")

PROFILED = ("puts", "gets")
"""Workloads whose CPU time is divided among the parts of lakery-cloud, on each cloud."""
PROFILED_TURNS = 15

PLAN = (
    Step("s3", "plain", 9, ("puts", "gets")),  # a target compares the CPU time of two clients that hardly differ
    Step("s3", "plain", 5, ("hits", "streams", "streams-16")),
    Step("s3", "plain", 9, ("read", "read-verified")),  # turns are short, and the best of nine clients is compared
    Step("s3", "plain", 3, ("write",)),
    Step("s3", "plain", 2, ("many",)),
    Step("s3", "tls", 5, ("puts", "streams")),
    Step("s3", "tls", 3, ("write",)),
    Step("s3", "network", 3, (*OVER_A_NETWORK, "streams-16")),
    Step("start", "plain", 5, ("help", "put-to-folder", "first-put")),
    Step("gcs", "plain", 3, OF_SDKS),
    Step("gcs", "network", 3, OVER_A_NETWORK),
    Step("start-gcs", "plain", 5, ("first-put",)),
    Step("azure", "plain", 3, OF_SDKS),
    Step("azure", "network", 3, OVER_A_NETWORK),
    Step("start-azure", "plain", 5, ("first-put",)),
)
