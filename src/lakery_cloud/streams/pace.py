"""How many parts of one stream travel at a time: more while the link is the limit, fewer when the store throttles."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

FIRST_PARTS = 4
"""Parts that travel at a time at the beginning."""
GROWTH = 2
"""Parts more after each wait for the link: half of the parts don't wait, since one ends meanwhile."""
IDLE_SHARE = 0.75
"""The process waits for the link while it uses less of one CPU than this."""

_current: ContextVar["Pace | None"] = ContextVar("current_pace", default=None)


def _clocks() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


class Pace:
    """Slots for the parts of one stream. Their number grows with each wait for the link, and halves at a throttle.

    With more parts a process that is busy would only use more memory.

    Args:
        most: The largest number of slots.
        first: The number at the beginning.
        clocks: Return the time, and the CPU time of the process, in seconds.

    Attributes:
        limit: The number of slots now.
    """

    def __init__(
        self, most: int, *, first: int = FIRST_PARTS, clocks: Callable[[], tuple[float, float]] = _clocks
    ) -> None:
        self.limit = min(first, most)
        self._most = most
        self._clocks = clocks
        self._slots = asyncio.Semaphore(self.limit)
        self._excess = 0
        self._until_next_halving = 0

    async def acquire(self) -> None:
        """Take a slot, or wait for one."""
        if self.limit == self._most or not self._slots.locked():
            await self._slots.acquire()
        else:
            began, worked = self._clocks()
            await self._slots.acquire()
            ended, works = self._clocks()
            if works - worked < IDLE_SHARE * (ended - began):
                self._grow()
        self._until_next_halving -= 1

    def release(self) -> None:
        """Give a slot back."""
        if self._excess:
            self._excess -= 1
        else:
            self._slots.release()

    def halve(self) -> None:
        """Halve the number of slots, once for all the parts that travel now."""
        if self._until_next_halving > 0:
            return
        half = max(1, self.limit // 2)
        self._excess += self.limit - half
        self.limit = self._until_next_halving = half

    @contextmanager
    def current(self) -> Iterator[None]:
        """Let `note_throttle` find it in the block, and in the tasks that start there."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def _grow(self) -> None:
        for _ in range(min(GROWTH, self._most - self.limit)):
            self.limit += 1
            self.release()


def note_throttle() -> None:
    """Slow the current stream down: the store has refused one of its requests because of too many."""
    pace = _current.get()
    if pace is not None:
        pace.halve()
