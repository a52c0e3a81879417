"""`ContentFile`: stored content as a binary file, for libraries that read files, such as pyarrow, pandas and zipfile."""

import asyncio
import io
import logging
import os
from collections.abc import Awaitable, Callable

from lakery_cloud.digest import compare
from lakery_cloud.errors import ConfigError, brief
from lakery_cloud.records import ContentRecord
from lakery_cloud.streams.hashing import new_hasher

logger = logging.getLogger("lakery_cloud")

KiB = 1024
FIRST_RANGE = 64 * KiB
"""Bytes of the first request after a jump: a file's directory or footer is often smaller."""
LARGEST_RANGE = 8 * KiB**2
"""Bytes of a request once the file is read in order: each one is twice as large as the last."""
SMALL = KiB**2
"""Bytes of content that is read whole, since a round trip of a network takes longer than they do."""

ReadRange = Callable[[int, int], bytes]
"""Reads the bytes from a start to a stop, and blocks until they have arrived."""


class ContentFile(io.BufferedReader):
    """Stored content as a readable, seekable binary file, whose reads are requests for ranges.

    Reads in order make larger and larger requests, and a read of a part makes one for this part. Bytes with a content
    encoding come as they are stored. Content that is read from its start to its end, in order, is compared with its hash at
    the end; other reads can't be, since the hash is that of the whole.

    Args:
        record: The record of the content.
        read_range: Reads a range of it. A range of the whole it verifies.

    Raises:
        IntegrityError: At the end, the content does not match the record.
        LakeryCloudError: While you read, the storage's errors.
    """

    def __init__(self, record: ContentRecord, read_range: ReadRange) -> None:
        self._ranges = _Ranges(record, read_range)
        super().__init__(self._ranges, FIRST_RANGE)
        self.record = record

    @property
    def is_verified(self) -> bool:
        """Whether all of the content was read in order, and matched its hash."""
        return self._ranges.is_verified

    @property
    def name(self) -> str:
        """The content hash."""
        return self.record.content_hash

    def __repr__(self) -> str:
        return f"<ContentFile {brief(self.record.content_hash)}, {self.record.content_size} bytes>"


class _Ranges(io.RawIOBase):
    """The unbuffered file."""

    def __init__(self, record: ContentRecord, read_range: ReadRange) -> None:
        self.is_verified = False
        self._record = record
        self._read_range = read_range
        self._size = record.content_size
        self._position = 0
        self._held, self._held_from = b"", 0
        self._next_size = FIRST_RANGE
        self._hasher = new_hasher(record.content_hash_algorithm)
        self._hashed = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._check_open()
        bases = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}
        if whence not in bases:
            raise ValueError(f"whence must be 0, 1 or 2, not {whence}")
        position = bases[whence] + offset
        if position < 0:
            raise ValueError(f"a position is 0 or later, not {position}")
        self._position = position
        return position

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # the base class has no better type
        self._check_open()
        wanted = min(len(buffer), self._size - self._position)
        if wanted <= 0:
            return 0
        held = self._of_held(wanted) or self._fetch(wanted)
        buffer[: len(held)] = held
        self._position += len(held)
        return len(held)

    def readall(self) -> bytes:
        self._check_open()
        found = self._read(self._position, self._size) if self._position < self._size else b""
        self._position = max(self._position, self._size)
        return found

    def close(self) -> None:
        if not self.closed:
            if not self.is_verified:
                logger.info("%s was not read from start to end, so it was not verified", self._record.content_hash)
            self._held = b""
        super().close()

    def _of_held(self, wanted: int) -> memoryview:
        start = self._position - self._held_from
        return memoryview(self._held)[start : start + wanted] if start >= 0 else memoryview(b"")

    def _fetch(self, wanted: int) -> memoryview:
        is_in_order = self._position == self._held_from + len(self._held)
        self._next_size = min(2 * self._next_size, LARGEST_RANGE) if is_in_order else FIRST_RANGE
        start, stop = self._position, min(self._position + max(wanted, self._next_size), self._size)
        if self._size <= SMALL:
            start, stop = 0, self._size
        self._held, self._held_from = self._read(start, stop), start
        return self._of_held(wanted)

    def _read(self, start: int, stop: int) -> bytes:
        """Read a range, hash the bytes that follow those hashed before, and compare the hash at the end."""
        found = self._read_range(start, stop)
        if (start, stop) == (0, self._size):
            self.is_verified = True
        elif start <= self._hashed < stop:
            self._hasher.update(found[self._hashed - start :])
            self._hashed = stop
            if stop == self._size:
                what = f"the content from {self._record.storage_name}"
                compare(self._record.digest, content_hash=self._hasher.hexdigest(), size=stop, what=what)
                self.is_verified = True
        return found

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the file is closed")


def on_running_loop(read_range: Callable[[int, int], Awaitable[bytes]]) -> ReadRange:
    """Make a blocking function for worker threads from a coroutine function of the running event loop."""
    loop = asyncio.get_running_loop()

    async def read(start: int, stop: int) -> bytes:
        return await read_range(start, stop)

    def read_blocking(start: int, stop: int) -> bytes:
        if loop.is_closed():
            raise ConfigError("the event loop of the file is closed; open the file again")
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is loop:
            raise ConfigError(
                "a read on the thread of its event loop would never end; read the file in a worker thread: "
                "await asyncio.to_thread(read, file)"
            )
        return asyncio.run_coroutine_threadsafe(read(start, stop), loop).result()

    return read_blocking
