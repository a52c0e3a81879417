"""Local files as streams, in and out, without blocking the event loop; nothing here knows a storage."""

import asyncio
import errno
import mimetypes
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterable
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from lakery_cloud.errors import IntegrityError

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


def check_source(path: Path) -> None:
    """Refuse early what can't be read as a file.

    Raises:
        OSError: It is not there, or is a folder.
    """
    if stat.S_ISDIR(path.stat().st_mode):
        raise IsADirectoryError(errno.EISDIR, "a folder can't be saved; name a file", str(path))


def check_target(path: Path) -> None:
    """Refuse early what can't be written as a file.

    Raises:
        OSError: It is a folder, or the folder for it is not there.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "the target is a folder; name a file", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "the folder of the target is not there", str(path.parent))


async def chunks_of(path: Path) -> AsyncGenerator[bytes]:
    """The bytes of a file.

    Raises:
        IntegrityError: The file changed while it was read. It is raised before the stream ends, so that nothing is saved.
            A change in the same tick of the file system's clock that keeps the size goes unnoticed.
        OSError: The file is not there, or can't be read.
    """
    with path.open("rb") as file:
        before = _state(file)
        while chunk := await asyncio.to_thread(file.read, CHUNK_SIZE):
            yield chunk
        if _state(file) != before:
            raise IntegrityError(
                f"the file {str(path)!r} changed while it was read; try again when nobody writes to it"
            )


async def write_file(path: Path, chunks: AsyncIterable[bytes]) -> None:
    """Write a file that is there in full or not at all: another file of this name stays until all has arrived.

    What is no regular file, such as a pipe or a device, is written to as it is.
    """
    if _is_device(path):
        with path.open("wb") as device:
            async for chunk in chunks:
                await asyncio.to_thread(device.write, chunk)
        return
    temporary = path.with_name(f".lakery-cloud-{uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            async for chunk in chunks:
                await asyncio.to_thread(file.write, chunk)
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _state(file: BinaryIO) -> tuple[int, ...] | None:
    """What changes when somebody writes to a file; None for pipes and devices, which always change."""
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
