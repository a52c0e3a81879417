"""How long to wait before a request is tried again."""

import random

from lakery_cloud.engine.telemetry.operations import note_retries

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 20.0


def backoff(failures: int, *, first: float | None = None) -> float:
    """Seconds to wait after so many failures, from 1: twice as long after each, and of random length.

    Clients that failed together must not come back together.

    Args:
        failures: How many requests in a row failed.
        first: Longest pause after the first failure, in seconds; `FIRST_PAUSE` if None.
    """
    note_retries()
    longest = (FIRST_PAUSE if first is None else first) * 2.0 ** (failures - 1)
    return min(longest, LONGEST_PAUSE) * random.uniform(0.5, 1)  # noqa: S311, it spreads retries
