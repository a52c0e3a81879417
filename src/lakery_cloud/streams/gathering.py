"""Batches of what concurrent callers want: while one is sent, the next one gathers."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batches(Generic[T, R]):
    """Joins the items of concurrent calls.

    Args:
        send: Sends a batch, and returns what all of its callers get.
        most: Items of one batch.
    """

    def __init__(self, send: Callable[[Sequence[T]], Awaitable[R]], *, most: int) -> None:
        self._send = send
        self._most = most
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._sending: asyncio.Task[None] | None = None

    async def add(self, item: T) -> R:
        """Send an item with the next batch, and return the result of that. Its failure is raised for all of its callers."""
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all())
        return await result

    async def _send_all(self) -> None:
        batch: list[tuple[T, asyncio.Future[R]]] = []
        try:
            while self._waiting:
                batch.append(self._waiting.popleft())
                if self._waiting and len(batch) < self._most:
                    continue
                # Nobody waits for the items of callers that were cancelled.
                batch = [(item, result) for item, result in batch if not result.done()]
                if batch:
                    await self._send_one(batch)
                batch = []
        finally:
            self._sending = None
            for _, result in (*batch, *self._waiting):  # if this task was cancelled
                result.cancel()
            self._waiting.clear()

    async def _send_one(self, batch: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            answer = await self._send([item for item, _ in batch])
        except Exception as failure:  # noqa: BLE001, it is that of the callers
            for _, result in batch:
                if not result.done():
                    result.set_exception(failure)
        else:
            for _, result in batch:
                if not result.done():
                    result.set_result(answer)
