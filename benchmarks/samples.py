"""Where small requests spend CPU time: the part of the program that runs, looked at again and again."""

import signal
from collections import Counter
from functools import cache
from types import FrameType
from typing import Self

PERIOD = 0.001
"""Seconds of CPU time between two samples. Kernels round it up, often to 4 ms."""

LOOP = "HTTP and event loop"
PARTS = {
    "/benchmarks/": "content and its hash",
    "/signing.py": "signature",
    "/engine/secret_key.py": "signature",
    "/lakery_cloud/http/": LOOP,
    "/lakery_cloud/providers/": "requests of the API",
    "/lakery_cloud/": "engine",
}
"""What is in a path, and the part of the program that such files are. The first that fits counts."""
NAMES = (*dict.fromkeys(PARTS.values()),)


class Sampler:
    """Count samples for each part of the program while the context is open. A library counts for the part that calls it."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGPROF, self._take)
        signal.setitimer(signal.ITIMER_PROF, PERIOD, PERIOD)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, self._before)

    def _take(self, _: int, frame: FrameType | None) -> None:
        while frame is not None:
            if part := _part_of(frame.f_code.co_filename):
                self.counts[part] += 1
                return
            frame = frame.f_back
        self.counts[LOOP] += 1


@cache
def _part_of(path: str) -> str | None:
    return next((part for piece, part in PARTS.items() if piece in path), None)
