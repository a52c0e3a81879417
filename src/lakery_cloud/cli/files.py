"""Standard streams, read and written in chunks without blocking the event loop."""

import os
import sys
from collections.abc import AsyncGenerator, AsyncIterable
from typing import BinaryIO

from lakery_cloud.cli.output import STANDARD_OUTPUT
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
    if sys.stdin is None:  # the shell has closed it: <&-
        raise ConfigError("standard input is closed")
    return sys.stdin.buffer


async def write_stdout(chunks: AsyncIterable[bytes]) -> None:
    """Write chunks to standard output.

    Raises:
        ConfigError: It is closed.
    """
    await write_detached(sys.stdout.fileno(), chunks, name=STANDARD_OUTPUT)
