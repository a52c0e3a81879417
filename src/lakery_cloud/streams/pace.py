"""How many parts or ranges travel at a time: more while the link is the limit, fewer when the store throttles."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

FIRST_PARTS = 4
"""Parts that travel at a time at the beginning."""
FIRST_GROWTH = 4
"""How many times as many after a wait for the link. Once the store has throttled, twice as many."""
IDLE_SHARE = 0.75
"""The process waits for the link while it uses less of one CPU than this."""

REMEMBERED = 60.0
"""Seconds after which a read finds out again whether one connection limits it."""

Clocks = tuple[float, float]
"""The time, and the CPU time of the process, in seconds."""

_current: ContextVar["Pace | None"] = ContextVar("current_pace", default=None)


def _clocks() -> Clocks:
    return time.monotonic(), time.process_time()


class Link:
    """What streams found out about the link to a store, for those that start later.

    Args:
        clock: Returns the time in seconds.

    Attributes:
        parts: How many parts a write sends at a time at its beginning.
        clock: As the argument.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.parts = FIRST_PARTS
        self.clock = clock
        self._slow_until = -math.inf

    @property
    def is_slow(self) -> bool:
        """Whether one connection limited a read lately, and the store sent ranges."""
        return self.clock() < self._slow_until

    def note_slow(self) -> None:
        """Remember that one connection limits a read, and that the store sends ranges."""
        self._slow_until = self.clock() + REMEMBERED


class Pace:
    """Slots for the parts or ranges of one stream: more after each wait for the link, half as many at a throttle.

    With more of them a process that is busy would only use more memory.

    Args:
        most: The largest number of slots.
        first: The number at the beginning.
        link: Has the number at the beginning instead, and gets each later one.
        clocks: Reads the clocks.

    Attributes:
        limit: The number of slots now.
        clocks: As the argument.
    """

    def __init__(
        self,
        most: int,
        *,
        first: int = FIRST_PARTS,
        link: Link | None = None,
        clocks: Callable[[], Clocks] = _clocks,
    ) -> None:
        self.limit = min(link.parts if link else first, most)
        self._most = most
        self._link = link
        self._growth = FIRST_GROWTH
        self.clocks = clocks
        self._slots = asyncio.Semaphore(self.limit)
        self._excess = 0
        self._until_next_halving = 0

    async def acquire(self) -> None:
        """Take a slot, or wait for one."""
        if self.has_slot:
            await self._slots.acquire()
        else:
            began = self.clocks()
            await self._slots.acquire()
            self.note_wait(began, self.clocks())
        self._until_next_halving -= 1

    @property
    def has_slot(self) -> bool:
        """Whether `acquire` would not wait."""
        return not self._slots.locked()

    def note_wait(self, began: Clocks, ended: Clocks, *, used: float = 0.0) -> None:
        """Have more slots after a wait for the link in which the process was idle.

        But not while any are under way that the store throttled, since these waited for their retries.

        Args:
            began: The clocks at the beginning of the wait.
            ended: The clocks at its end.
            used: Seconds in which a reader used what it waited for. It is the limit itself if those of all slots take it
                longer than the wait.
        """
        waited, worked = ended[0] - began[0], ended[1] - began[1]
        if worked < IDLE_SHARE * waited and used * self.limit < waited and self._until_next_halving <= 0:
            for _ in range(min(self._growth * self.limit, self._most) - self.limit):
                self.limit += 1
                self.release()
            self._remember()

    def release(self) -> None:
        """Give a slot back."""
        if self._excess:
            self._excess -= 1
        else:
            self._slots.release()

    def halve(self) -> None:
        """Halve the number of slots, once for all that travel now."""
        if self._until_next_halving > 0:
            return
        half = max(1, self.limit // 2)
        self._excess += self.limit - half
        self._growth = 2
        self.limit = self._until_next_halving = half
        self._remember()

    def _remember(self) -> None:
        if self._link is not None:
            self._link.parts = self.limit

    @contextmanager
    def current(self) -> Iterator[None]:
        """Let `note_throttle` find it in the block, and in the tasks that start there."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


def note_throttle() -> None:
    """Slow the current stream down: the store has refused one of its requests because of too many."""
    pace = _current.get()
    if pace is not None:
        pace.halve()
