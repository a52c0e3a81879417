"""Standard streams, read and written in chunks without blocking the event loop."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar, cast

from lakery_cloud.files import CHUNK_SIZE

T = TypeVar("T")


async def chunks_of_stdin() -> AsyncGenerator[bytes]:
    """The bytes of standard input."""
    while chunk := await _uninterrupted(lambda: os.read(sys.stdin.fileno(), CHUNK_SIZE)):
        yield chunk


async def read_line_of_stdin() -> bytes:
    """The first line of standard input."""
    return await _uninterrupted(sys.stdin.buffer.readline)


async def write_stdout(chunks: AsyncIterable[bytes]) -> None:
    """Write to standard output."""
    async for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            written = await _uninterrupted(partial(os.write, sys.stdout.fileno(), rest))
            rest = rest[written:]


async def _uninterrupted(function: Callable[[], T]) -> T:
    """Run what may block for ever, as a read of a silent terminal, in a thread that nobody has to wait for."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast("T", result))

    def run() -> None:
        result, error = None, None
        try:
            result = function()
        except BaseException as raised:  # noqa: BLE001, it is raised again where the result is awaited
            error = raised
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, daemon=True).start()
    return await future
