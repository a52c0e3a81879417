"""Local files and standard streams, read and written in chunks without blocking the event loop."""

import asyncio
import mimetypes
import os
import sys
import tempfile
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

T = TypeVar("T")

CHUNK_SIZE = 1024 * 1024

# The table of the standard library alone: what a machine has installed must not matter.
_TYPES = mimetypes.MimeTypes()
# Formats of serialized data that the table of some Python version lacks; names as registered with IANA.
for _type, _ending in (
    ("application/vnd.apache.arrow.file", ".arrow"),
    ("application/vnd.apache.parquet", ".parquet"),
    ("application/toml", ".toml"),
    ("application/yaml", ".yaml"),
    ("application/yaml", ".yml"),
    ("image/webp", ".webp"),
    ("text/markdown", ".md"),
):
    _TYPES.add_type(_type, _ending)
_TYPE_OF_ENCODING = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
DEFAULT_TYPE = "application/octet-stream"


def guess_content_type(path: Path) -> str:
    """Media type by the file's name. `a.tar.gz` is gzip: its bytes are stored as they are, not as an encoding."""
    content_type, encoding = _TYPES.guess_type(path.name)
    if encoding is not None:
        return _TYPE_OF_ENCODING.get(encoding, DEFAULT_TYPE)
    return content_type or DEFAULT_TYPE


async def chunks_of(path: Path) -> AsyncGenerator[bytes]:
    """The bytes of a file."""
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_SIZE):
            yield chunk


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


async def write_file(path: Path, chunks: AsyncIterable[bytes]) -> None:
    """Write a file that is there in full or not at all: another file of this name stays until all has arrived.

    What is no regular file, such as a pipe or a device, is written to as it is.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as device:
            async for chunk in chunks:
                await asyncio.to_thread(device.write, chunk)
        return
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".lakery-cloud-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            async for chunk in chunks:
                await asyncio.to_thread(file.write, chunk)
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        _set_usual_mode(temporary)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


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


def _set_usual_mode(path: str) -> None:
    """The mode that a file made by `open` would have; mkstemp's is 0600."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(path, 0o666 & ~mask)
