"""How many cases a generated test tries, and how many it has tried: a few in `make test`, many in `make attack`."""

import os
from collections import Counter
from typing import Any

from hypothesis import settings

TIMES = int(os.environ.get("LAKERY_CLOUD_ATTACK", "1"))
"""How many times the cases of `make test` to try."""
SEED = int(os.environ.get("LAKERY_CLOUD_ATTACK_SEED", "0"))
"""The seed of tests that choose their cases without hypothesis, which gets it as an option."""

counted: Counter[str] = Counter()
"""What was tried -> how often. A test counts when its checks have passed."""


def cases(number: int, **options: Any) -> settings:
    """The settings of a generated test that tries so many cases in `make test`."""
    if "LAKERY_CLOUD_ATTACK" in os.environ:
        # The seed alone determines the cases, so that it reproduces a finding.
        options |= {"derandomize": False, "database": None, "print_blob": True}
    return settings(max_examples=number * TIMES, deadline=None, **options)
