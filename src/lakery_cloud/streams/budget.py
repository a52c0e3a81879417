"""A limit on the bytes that all streams of a storage buffer together."""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Self


class ByteBudget:
    """Limits the bytes in use. Requests past the limit wait, first come, first served.

    A request larger than the whole budget waits until all of it is free.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._free = limit
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def acquire(self, size: int) -> None:
        """Wait until `size` bytes are free and take them."""
        if self.try_acquire(size):
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((size, future))
        try:
            await future
        except asyncio.CancelledError:
            if future.cancelled():
                with suppress(ValueError):  # _wake may have removed it
                    self._waiting.remove((size, future))
                self._wake()
            else:
                self.release(size)
            raise

    def try_acquire(self, size: int) -> bool:
        """Take `size` bytes if they are free and no request waits."""
        if self._waiting or not self._fits(size):
            return False
        self._free -= size
        return True

    def release(self, size: int) -> None:
        """Return bytes to the budget."""
        self._free += size
        self._wake()

    def lease(self) -> "Lease":
        """Return a lease, which returns its bytes to the budget at its end."""
        return Lease(self)

    def _fits(self, size: int) -> bool:
        return size <= self._free or self._free == self._limit

    def _wake(self) -> None:
        while self._waiting and (self._waiting[0][1].cancelled() or self._fits(self._waiting[0][0])):
            size, future = self._waiting.popleft()
            if not future.cancelled():
                self._free -= size
                future.set_result(None)


class Lease:
    """A holder's bytes of a budget. At the end of its `with` block it returns them to the budget."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._size = 0

    async def acquire(self, size: int) -> None:
        """Wait until `size` bytes are free and take them."""
        await self._budget.acquire(size)
        self._size += size

    def try_acquire(self, size: int) -> bool:
        """Take `size` bytes if they are free and no request waits."""
        is_taken = self._budget.try_acquire(size)
        self._size += size * is_taken
        return is_taken

    def release(self, size: int) -> None:
        """Return bytes to the budget."""
        self._size -= size
        self._budget.release(size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release(self._size)
