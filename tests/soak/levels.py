"""Memory, tasks and sockets of this process, which must not grow in a soak."""

import asyncio
import ctypes
import gc
import os
import re
from pathlib import Path
from typing import NamedTuple

from tests.helpers import PATIENCE

MiB = 1024**2


class Levels(NamedTuple):
    """The resources of a process.

    Attributes:
        memory: Resident bytes.
        tasks: Tasks of the running event loop.
        sockets: Open sockets.
    """

    memory: int
    tasks: int
    sockets: int

    def rise(self, since: "Levels", *, memory: int) -> list[str]:
        """Describe each level that has risen; memory may rise by so many bytes."""
        return [
            f"{name}: {was} at the start, {now} at the end"
            for name, was, now, allowed in zip(self._fields, since, self, (memory, 0, 0), strict=True)
            if now > was + allowed
        ]


def levels() -> Levels:
    """The levels now, without garbage."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else memory that the C library keeps counts too
    resident = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert resident is not None
    return Levels(int(resident[1]) * 1024, len(asyncio.all_tasks()), _sockets())


async def settled(since: Levels) -> Levels:
    """The levels, as soon as tasks and sockets are back where they were, or after `PATIENCE`."""
    end = asyncio.get_running_loop().time() + PATIENCE
    # No event says that the peer has closed a connection.
    while (now := levels()).rise(since, memory=1 << 60) and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    return now


def _sockets() -> int:
    count = 0
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
        except FileNotFoundError:  # that of the folder itself
            continue
    return count
