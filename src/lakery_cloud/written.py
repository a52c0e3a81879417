"""Streams that a function writes to a file object, as serializers of many libraries do."""

import asyncio
import io
from collections.abc import AsyncGenerator, Callable
from typing import BinaryIO, cast

from lakery_cloud.errors import StorageUnavailable
from lakery_cloud.streams.tasks import finish

Write = Callable[[BinaryIO], object]
"""Writes to a file object that is not seekable."""

CHUNK_SIZE = 1024 * 1024
"""Bytes of the chunks of a written stream: each one is a change of threads."""
LARGEST_CHUNK = 8 * CHUNK_SIZE
AHEAD = 2
"""Chunks that may be written before the stream is read on."""


async def chunks_written(write: Write) -> AsyncGenerator[bytes]:
    """Yield what a function writes, which runs in a worker thread and waits while the stream is not read on.

    An error of the function is raised instead of the end of the stream. If the stream is closed before, the function's
    next write raises an error, and the stream waits for its end.
    """
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(AHEAD)
    sink = _Sink(asyncio.get_running_loop(), queue)
    running = asyncio.create_task(_run(write, sink, queue))
    try:
        while (chunk := await queue.get()) is not None:
            yield chunk
        await running
    finally:
        sink.is_aborted = True
        if not running.done():
            await finish(_drained(queue, running))


async def _run(write: Write, sink: "_Sink", queue: "asyncio.Queue[bytes | None]") -> None:
    def run() -> None:
        with io.BufferedWriter(sink, CHUNK_SIZE) as file:  # type: ignore[type-var]  # it is a RawIOBase
            write(cast("BinaryIO", file))

    try:
        await asyncio.to_thread(run)
    finally:
        await queue.put(None)


async def _drained(queue: "asyncio.Queue[bytes | None]", running: asyncio.Task[None]) -> None:
    """Discard what is written, so that the function comes to its next write, and wait for its end."""
    while await queue.get() is not None:
        pass
    await asyncio.wait([running])
    running.exception()  # retrieved: the reader of the stream has an error of its own


class _Sink(io.RawIOBase):
    """A file whose writes go to a queue of an event loop.

    Attributes:
        is_aborted: Whether nobody reads the queue any more.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, queue: "asyncio.Queue[bytes | None]") -> None:
        self.is_aborted = False
        self._loop = loop
        self._queue = queue
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: memoryview, /) -> int:  # type: ignore[override]  # the base class has no better type
        if self.is_aborted:
            raise StorageUnavailable("the save of what is written here has ended with an error")
        chunk = bytes(data[:LARGEST_CHUNK])
        asyncio.run_coroutine_threadsafe(self._queue.put(chunk), self._loop).result()
        self._position += len(chunk)
        return len(chunk)
