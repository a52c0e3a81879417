"""Local files and standard streams, read and written in chunks without blocking the event loop."""

import asyncio
import mimetypes
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

CHUNK_SIZE = 1024 * 1024

# The table of the standard library alone: what a machine has installed must not matter.
_TYPES = mimetypes.MimeTypes()
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
        async for chunk in _chunks(file):
            yield chunk


async def chunks_of_stdin() -> AsyncGenerator[bytes]:
    """The bytes of standard input."""
    async for chunk in _chunks(sys.stdin.buffer):
        yield chunk


async def write_stdout(chunks: AsyncIterable[bytes]) -> None:
    """Write to standard output."""
    async for chunk in chunks:
        await asyncio.to_thread(sys.stdout.buffer.write, chunk)
    await asyncio.to_thread(sys.stdout.buffer.flush)


async def write_file(path: Path, chunks: AsyncIterable[bytes]) -> None:
    """Write a file that is there in full or not at all: another file of this name stays until all has arrived."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
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


async def _chunks(file: BinaryIO) -> AsyncGenerator[bytes]:
    while chunk := await asyncio.to_thread(file.read, CHUNK_SIZE):
        yield chunk


def _set_usual_mode(path: str) -> None:
    """The mode that a file made by `open` would have; mkstemp's is 0600."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(path, 0o666 & ~mask)
