"""Slots for concurrent requests, and time limits that don't count the wait for a slot."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Literal


class Limiter(asyncio.Semaphore):
    """Slots for concurrent requests, first come, first served."""

    async def acquire(self) -> Literal[True]:
        """Take a slot, or wait for one."""
        clock = _clock.get()
        if clock is None or not self.locked():
            return await super().acquire()
        with clock.paused():
            return await super().acquire()


class WorkClock:
    """A time limit that doesn't count the waits for a slot of a `Limiter`.

    It covers the tasks that start inside of `measuring`, since a new task inherits the context of the one that starts it.
    """

    def __init__(self) -> None:
        self._waits = 0
        self._timeout: asyncio.Timeout | None = None
        self._left = 0.0

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Cover the tasks that start inside of the block."""
        token = _clock.set(self)
        try:
            yield
        finally:
            _clock.reset(token)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock inside of the block."""
        self._waits += 1
        if self._waits == 1:
            self._stop()
        try:
            yield
        finally:
            self._waits -= 1
            if not self._waits:
                self._start()

    @asynccontextmanager
    async def limit(self, seconds: float) -> AsyncIterator[None]:
        """Cancel the block after some seconds of work.

        Raises:
            TimeoutError: They have passed.
        """
        async with asyncio.timeout(None) as timeout:
            self._timeout, self._left = timeout, seconds
            if not self._waits:
                self._start()
            try:
                yield
            finally:
                self._timeout = None

    def _start(self) -> None:
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._left)

    def _stop(self) -> None:
        if self._timeout is not None and not self._timeout.expired():
            self._left = (self._timeout.when() or 0.0) - asyncio.get_running_loop().time()
            self._timeout.reschedule(None)


_clock: ContextVar[WorkClock | None] = ContextVar("clock", default=None)


def current_clock() -> WorkClock:
    """The clock that covers this task, or a new one."""
    return _clock.get() or WorkClock()
