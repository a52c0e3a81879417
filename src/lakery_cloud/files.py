"""Local files as streams: reads and writes that don't block the event loop."""

import asyncio
import errno
import mimetypes
import os
import stat
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar, cast
from uuid import uuid4

from lakery_cloud.errors import IntegrityError, LakeryCloudError

T = TypeVar("T")

CHUNK_SIZE = 1024 * 1024

# Only the table of the standard library, so that the result does not depend on the machine.
_TYPES = mimetypes.MimeTypes()
# Formats that some Python version's table lacks; media types as registered with IANA.
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
    """Guess the media type from the file name. `a.tar.gz` is `application/gzip`, since compression is no encoding here."""
    content_type, encoding = _TYPES.guess_type(path.name)
    if encoding is not None:
        return _TYPE_OF_ENCODING.get(encoding, DEFAULT_TYPE)
    return content_type or DEFAULT_TYPE


def check_source(path: Path) -> None:
    """Refuse a path that can't be read as a file.

    Raises:
        OSError: The path does not exist or is a folder.
    """
    if stat.S_ISDIR(path.stat().st_mode):
        raise IsADirectoryError(errno.EISDIR, "a folder can't be saved; name a file", str(path))


def check_target(path: Path) -> None:
    """Refuse a path that can't be written as a file.

    Raises:
        OSError: The path is a folder, or its folder does not exist.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "the target is a folder; name a file", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "the folder of the target does not exist", str(path.parent))


async def chunks_of(path: Path | int) -> AsyncGenerator[bytes]:
    """Read a file in chunks. An open file is closed at the end.

    Raises:
        IntegrityError: The file changed during the read. The error comes before the end of the stream, so that nothing is
            saved. A change that keeps the size, within one tick of the file system's clock, is not detected.
        OSError: The file does not exist or can't be read.
    """
    descriptor = await _open_detached(path, os.O_RDONLY) if isinstance(path, Path) else path
    with os.fdopen(descriptor, "rb") as file:
        before = _state(file)
        if before is None:
            while chunk := await run_detached(partial(os.read, descriptor, CHUNK_SIZE)):
                yield chunk
            return
        while chunk := await asyncio.to_thread(file.read, CHUNK_SIZE):
            yield chunk
        if _state(file) != before:
            raise IntegrityError(
                f"the file {str(path)!r} changed while it was read; try again when no program writes to it"
            )


async def chunks_of_open_file(file: BinaryIO) -> AsyncGenerator[bytes]:
    """Read an open file from its position to its end, in worker threads."""
    while chunk := await asyncio.to_thread(file.read, CHUNK_SIZE):
        yield chunk


async def write_open_file(file: BinaryIO, chunks: AsyncIterable[bytes]) -> None:
    """Write chunks to an open file in worker threads, and flush it."""
    async for chunk in chunks:
        rest = memoryview(chunk)
        while rest:  # an unbuffered file may take a part
            rest = rest[await asyncio.to_thread(file.write, rest) :]
    await asyncio.to_thread(file.flush)


async def write_file(path: Path, chunks: AsyncIterable[bytes]) -> None:
    """Write a file atomically: an existing file is replaced when all chunks are written. Its mode stays.

    Pipes and devices are written directly.
    """
    if _is_device(path):
        descriptor = await _open_detached(path, os.O_WRONLY)
        try:
            await write_detached(descriptor, chunks, name=str(path))
        finally:
            os.close(descriptor)
        return
    with _opened_folder(path.parent) as folder:
        await _replace(folder, path, chunks)


async def write_detached(descriptor: int, chunks: AsyncIterable[bytes], *, name: str) -> None:
    """Write chunks to an open pipe or device, whose reader may let it wait for ever.

    Args:
        descriptor: Where to write.
        chunks: The bytes.
        name: Its name in errors.
    """
    async for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            with _naming(name):
                written = await run_detached(partial(os.write, descriptor, rest))
            rest = rest[written:]


async def write_file_below(folder: Path, name: PurePosixPath, chunks: AsyncIterable[bytes]) -> None:
    """Write a regular file below a folder as `write_file` does. A link in its place is replaced, none is followed.

    Raises:
        OSError: Something that is no folder, or no file, is in the way.
    """
    with _opened_folder(folder, name.parts[:-1], create=True) as parent:
        await _replace(parent, folder / name, chunks)


def open_below(folder: Path, name: PurePosixPath) -> int | None:
    """Open a regular file below a folder without following a link; return its descriptor, or None if there is none.

    Raises:
        OSError: Something that is no folder is in the way, or the file can't be read.
    """
    with suppress(FileNotFoundError), _opened_folder(folder, name.parts[:-1]) as parent:
        return open_regular(name.name, parent)
    return None


@contextmanager
def _opened_folder(path: Path, parts: Sequence[str] = (), *, create: bool = False) -> Generator[int]:
    """The descriptor of a folder below another one, reached without following a link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    if create:
        path.mkdir(exist_ok=True)
    folder = os.open(path, flags)
    try:
        for place, part in enumerate(parts, start=1):
            if create:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
            try:
                inner = os.open(part, flags | os.O_NOFOLLOW, dir_fd=folder)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                where = str(path.joinpath(*parts[:place]))
                raise NotADirectoryError(
                    errno.ENOTDIR, "a link or a file is in the place of a folder", where
                ) from error
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


async def _replace(folder: int, path: Path, chunks: AsyncIterable[bytes]) -> None:
    """Write a file in its open folder under a temporary name, and give it its own name at the end."""
    with _naming(str(path)):
        mode = _replaceable_mode(folder, path.name)
        temporary = f".lakery-cloud-{uuid4().hex}"
        try:
            descriptor = os.open(
                temporary,
                os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC,
                0o666 if mode is None else mode,
                dir_fd=folder,
            )
            with os.fdopen(descriptor, "wb") as file:
                if mode is not None:  # before the content: `mode` above lacks what the umask takes
                    os.fchmod(descriptor, mode)
                async for chunk in chunks:
                    await asyncio.to_thread(file.write, chunk)
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            raise


@contextmanager
def _naming(name: str) -> Generator[None]:
    """Name a file in the system's errors, which for a full disk name none."""
    try:
        yield
    except OSError as error:
        if isinstance(error, LakeryCloudError) or error.errno is None:
            raise
        raise type(error)(error.errno, error.strerror, name) from error


def _replaceable_mode(folder: int, name: str) -> int | None:
    """The permissions of a file that may be replaced; None if there is no file, or a link.

    Set-user-ID and set-group-ID are left out: new content must not get the rights that the old content had.

    Raises:
        FileExistsError: Something else has the name.
    """
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISREG(mode):
        return mode & 0o777
    if stat.S_ISLNK(mode):
        return None
    raise FileExistsError(errno.EEXIST, "a folder, pipe, socket or device is in the place of the file; remove it", name)


# Calls that may never return.


async def run_detached(function: Callable[[], T], *, discard: Callable[[T], object] | None = None) -> T:
    """Call a function that may block for ever, such as the opening of a pipe or a read from a file server.

    A cancelled caller, and the end of the process, don't wait for it.

    Args:
        function: The function.
        discard: Called with the result if the caller was cancelled.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            if error is None and discard is not None:
                discard(cast("T", result))
        elif error is not None:
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


async def _open_detached(path: Path, flags: int) -> int:
    """Open a file, which waits for ever if it is a pipe without another end."""
    return await run_detached(partial(os.open, path, flags | os.O_CLOEXEC), discard=os.close)


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _state(file: BinaryIO) -> tuple[int, ...] | None:
    """Return the status fields that change with each write; None for pipes and devices."""
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


# Names and bytes on the disk.


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, and flush each entry that is new."""
    if not folder.is_dir():
        make_folder(folder.parent)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            with suppress(FileNotFoundError):  # another process has removed it meanwhile
                if not stat.S_ISDIR(folder.stat().st_mode):
                    raise
        flush(folder.parent)


def flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_at(path: Path, pieces: Iterable[bytes | memoryview], offset: int) -> None:
    """Write bytes into an existing file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                written = os.pwrite(descriptor, rest, offset)
                rest, offset = rest[written:], offset + written
    finally:
        os.close(descriptor)


def check_regular(status: os.stat_result) -> None:
    """Refuse links, folders, pipes and devices.

    Raises:
        FileNotFoundError: It is no regular file.
    """
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(errno.ENOENT, "not a regular file")


def open_regular(path: str | Path, folder: int | None = None) -> int:
    """Open a regular file, in an open folder if one is given, for reading; return its descriptor.

    Raises:
        FileNotFoundError: There is none, or something else.
    """
    # Before it is opened, which has effects on devices.
    check_regular(os.stat(path, dir_fd=folder, follow_symlinks=False))
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)


def link_new(source: Path, target: Path) -> None:
    """Give a file another name. The first name is left for the caller to remove, if it is left.

    Raises:
        FileExistsError: The name is taken.
        IntegrityError: It is taken by something that is no regular file.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        with suppress(FileNotFoundError):  # another process has deleted it meanwhile
            if not stat.S_ISREG(target.lstat().st_mode):
                raise IntegrityError(f"{str(target)!r} is no file; find out who made it, and remove it") from None
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
            raise
        # A file system without hard links. Two writers at once then rename over each other: with the same content.
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        os.rename(source, target)
    flush(target.parent)
