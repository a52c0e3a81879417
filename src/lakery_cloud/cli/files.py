"""Standard streams, read and written in chunks without blocking the event loop."""

import os
import sys
from collections.abc import AsyncGenerator, AsyncIterable
from typing import BinaryIO, TextIO

from lakery_cloud.errors import ConfigError
from lakery_cloud.files import CHUNK_SIZE, run_detached, write_detached


async def chunks_of_stdin() -> AsyncGenerator[bytes]:
    """Read standard input in chunks."""
    descriptor = stdin().fileno()
    while chunk := await run_detached(lambda: os.read(descriptor, CHUNK_SIZE)):
        yield chunk


async def read_line_of_stdin() -> bytes:
    """Read one line of standard input."""
    return await run_detached(stdin().readline)


def stdin() -> BinaryIO:
    """Return standard input.

    Raises:
        ConfigError: It is closed.
    """
    return _open(sys.stdin, "input").buffer


async def write_stdout(chunks: AsyncIterable[bytes]) -> None:
    """Write chunks to standard output."""
    await write_detached(_open(sys.stdout, "output").fileno(), chunks, name="standard output")


def _open(stream: TextIO | None, name: str) -> TextIO:
    if stream is None:  # the shell has closed it: <&- or >&-
        raise ConfigError(f"standard {name} is closed")
    return stream
