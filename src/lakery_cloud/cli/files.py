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
    """Read standard input in chunks."""
    while chunk := await _run_in_daemon_thread(lambda: os.read(sys.stdin.fileno(), CHUNK_SIZE)):
        yield chunk


async def read_line_of_stdin() -> bytes:
    """Read one line of standard input."""
    return await _run_in_daemon_thread(sys.stdin.buffer.readline)


async def write_stdout(chunks: AsyncIterable[bytes]) -> None:
    """Write chunks to standard output."""
    async for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            written = await _run_in_daemon_thread(partial(os.write, sys.stdout.fileno(), rest))
            rest = rest[written:]


async def _run_in_daemon_thread(function: Callable[[], T]) -> T:
    """Call a function that may block for ever, such as a read from a terminal, without delaying the process's exit."""
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
        except BaseException as raised:  # noqa: BLE001, raised again where the result is awaited
            error = raised
        with suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, daemon=True).start()
    return await future
