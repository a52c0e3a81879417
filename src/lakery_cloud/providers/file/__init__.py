"""`FileStorage`: content-addressed files below a folder. The embedded default; the algorithm is the engine's."""

import asyncio
import errno
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NotRequired, Self, TypedDict, TypeVar

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.keys import Address, KeySpace, is_quarantined
from lakery_cloud.engine.model import (
    Body,
    KeyExists,
    KeyMissing,
    Limits,
    ObjectInfo,
    Receipt,
    Upload,
    UploadGone,
    VersionChanged,
)
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.engine.settings import EngineSettings, keywords_of, redefine, setting
from lakery_cloud.engine.transport import Transport, missing
from lakery_cloud.engine.urls import merged, parse_url
from lakery_cloud.errors import (
    AccessDenied,
    BucketNotFound,
    ConfigError,
    InvalidRecord,
    LakeryCloudError,
    StorageUnavailable,
    brief,
)
from lakery_cloud.files import check_regular, flush, link_new, make_folder, open_regular, write_at
from lakery_cloud.providers.file.attributes import attributes_of, set_attributes
from lakery_cloud.providers.file.root import make_root
from lakery_cloud.streams.parts import Part
from lakery_cloud.streams.tasks import finish

logger = logging.getLogger("lakery_cloud")

T = TypeVar("T")

MiB = 1024**2
TiB = 1024**4

FILE_LIMITS = Limits(
    max_put_size=1 * TiB,
    min_part_size=1,
    max_part_size=1 * TiB,
    max_parts=1_000_000,
    max_object_size=1024 * TiB,
    max_copy_size=None,
    copy_part_size=64 * MiB,
)

MAX_SEGMENT = 255
"""Bytes of a file's name on the usual file systems (`NAME_MAX` of Linux and macOS)."""
READ_SIZE = 1 * MiB


_REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room within your quota",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), or use a file system for larger files",
    errno.EMFILE: "raise the limit of open files (ulimit -n), or lower max_concurrent_requests",
    errno.ENFILE: "close files of other programs",
    errno.ENOMEM: "make memory free",
    errno.EIO: "check the disk",
    errno.ENODEV: "mount the folder again",
    errno.ENXIO: "mount the folder again",
    errno.ESTALE: "mount the folder again",
    errno.ETIMEDOUT: "check the file server",
    errno.EHOSTDOWN: "check the file server",
    errno.EBUSY: "wait",
    errno.EAGAIN: "wait",
}
"""Error number -> what to do."""


class FileStorageData(TypedDict):
    """Storage data of `FileStorage`: a path relative to the root, so that the root can be moved."""

    key: str
    hash: NotRequired[str]
    size: NotRequired[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSettings(EngineSettings):
    """Settings of `FileStorage`."""

    root: str | os.PathLike[str] = field(kw_only=False, metadata={"meaning": "The folder.", "in_files": False})
    create: bool = setting(True, "Whether the first write makes the folder.")
    # A slow disk gets slower if several places of it are read at the same time.
    concurrent_ranges: int = redefine(EngineSettings, "concurrent_ranges", 1)
    limits: Limits = redefine(EngineSettings, "limits", FILE_LIMITS)

    def __post_init__(self) -> None:
        EngineSettings.__post_init__(self)
        folder = os.fspath(self.root)
        if not folder or "\0" in folder or not _is_utf8(folder):
            raise ConfigError(f"the root must be the path of a folder, not {folder!r}")


class FileStorage(ObjectStorage[FileStorageData]):
    """Content-addressed files below a folder, readable by their owner alone.

    A file is written under a temporary name, flushed to the disk and then linked to its own name, so that it is there
    in full or not at all, also after a crash.

    The arguments are the fields of `FileSettings`.

    Raises:
        ConfigError: A setting is wrong, or the prefix is no valid path of a folder.
    """

    settings_class = FileSettings
    settings: FileSettings

    name = "lakery_cloud.file@v1"
    url_scheme = "file"
    place_names = ("key",)

    @keywords_of(FileSettings)
    def __init__(self, settings: FileSettings) -> None:
        super().__init__(os.path.abspath(settings.root), settings)
        _check_path(self.keys.prefix, ConfigError)

    @classmethod
    def from_url(cls, url: str, **settings: Any) -> Self:
        """A storage from `file:///<folder>?<setting>=<value>`.

        Args:
            url: The URL.
            settings: Further keyword arguments of the class.

        Raises:
            ConfigError: The URL has another scheme, a host, or an unknown setting; or a setting has one value in
                it and another one beside it.
        """
        host, path, in_url = parse_url(url, scheme=cls.url_scheme, readers=FileSettings.url_readers())
        if host not in ("", "localhost"):
            raise ConfigError("a file URL starts with file:/// and has no host")
        if not path:
            raise ConfigError("a file URL needs the path of a folder: file:///srv/blobs")
        return cls(f"/{path}", **merged(in_url, settings))

    def credential_source(self) -> str:
        return "none: the rights of this process"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.keys.bucket!r}, prefix={self.keys.prefix!r})"

    @asynccontextmanager
    async def _open_transport(self) -> AsyncGenerator[Transport]:
        yield FileTransport(self.keys, self.settings)

    def _address(self, storage_data: FileStorageData) -> Address:
        address = super()._address(storage_data)
        _check_path(address.key, InvalidRecord)
        return address


class FileTransport(Transport):
    """The requests, on files. Each docstring of the base class says what a method promises.

    The work is done in worker threads, each call to its end: a cancelled caller waits for it, so that no thread goes on
    behind the clean-up.
    """

    uploads_to_content = True
    lists_by_prefix = False
    missing_bucket = "the folder {!r} does not exist. Check its path, or save something to it first"

    def __init__(self, keys: KeySpace, settings: FileSettings) -> None:
        super().__init__(
            max_concurrent_requests=settings.max_concurrent_requests,
            max_concurrent_reads=settings.max_concurrent_reads,
        )
        self._keys = keys
        self._create_root = settings.create

    def checks_hash(self, algorithm: str) -> bool:
        return False

    async def put(self, address: Address, data: bytes, attributes: ObjectAttributes) -> None:
        def write() -> None:
            temporary = self._new_file(attributes)
            try:
                write_at(temporary, (data,), 0)
                flush(temporary)
                _link(temporary, self._path(address))
            finally:
                temporary.unlink(missing_ok=True)

        await self._run_on_new_file(address, write)

    async def head(self, address: Address) -> ObjectInfo | None:
        try:
            return await self._run(address, lambda: _info(address, self._path(address)))
        except KeyMissing:
            return None

    async def has_bucket(self, bucket: str) -> bool:
        return await self._run(Address(bucket, ""), Path(bucket).is_dir)

    @asynccontextmanager
    async def get(
        self, address: Address, *, start: int = 0, stop: int | None = None, version: str | None = None
    ) -> AsyncGenerator[Body]:
        async with self.reads:
            with ExitStack() as opened:

                def open_file() -> tuple[int, ObjectInfo]:
                    # Not returned alone: a cancelled caller gets nothing, but must close the file.
                    descriptor = open_regular(self._path(address))
                    opened.callback(os.close, descriptor)
                    return descriptor, _info(address, descriptor)

                descriptor, info = await self._run(address, open_file)
                if version not in (None, info.version):
                    raise VersionChanged(str(address))
                stop = info.size if stop is None else min(stop, info.size)
                yield Body(info, self._chunks(descriptor, info, start, stop), start)

    async def _chunks(self, descriptor: int, info: ObjectInfo, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes, a mebibyte at a time. An open file stays readable if another client deletes it."""
        for offset in range(start, stop, READ_SIZE):
            size = min(READ_SIZE, stop - offset)
            yield await self._run(info.address, partial(_read, descriptor, offset, size, info.version))

    async def delete(self, address: Address, *, version_id: str | None = None) -> None:
        def unlink() -> None:
            path = self._path(address)
            path.unlink()
            flush(path.parent)

        with suppress(KeyMissing):
            await self._run(address, unlink)

    async def list(self, bucket: str, root: str) -> AsyncIterator[ObjectInfo]:
        def infos() -> list[ObjectInfo]:
            path, slash, beginning = root.rpartition("/")
            folder = self._path(Address(bucket, f"{root}any")).parent
            with os.scandir(folder) as entries:
                names = sorted(
                    entry.name
                    for entry in entries
                    if entry.name.startswith(beginning) and entry.is_file(follow_symlinks=False)
                )
            found = []
            for name in names:
                with suppress(FileNotFoundError):  # deleted in the meantime
                    found.append(_info(Address(bucket, f"{path}{slash}{name}"), folder / name))
            return found

        try:
            found = await self._run(Address(bucket, root), infos)
        except KeyMissing as signal:
            # A folder that the first write makes counts as an empty one.
            if self._create_root or await self.has_bucket(bucket):
                return
            raise await missing(self, Address(bucket, root)) from signal
        for info in found:
            yield info

    async def tags(self, address: Address) -> Mapping[str, str]:
        def read_tags() -> Mapping[str, str]:
            path = self._path(address)
            path.lstat()
            return attributes_of(path).tags

        return await self._run(address, read_tags)

    async def begin_upload(self, address: Address, attributes: ObjectAttributes, *, is_temporary: bool) -> Upload:
        path = await self._run_on_new_file(address, lambda: self._new_file(attributes))
        return Upload(address, str(path), attributes, is_temporary)

    async def upload_part(self, upload: Upload, part: Part) -> Receipt:
        await self._run_on_upload(upload, lambda: write_at(Path(upload.id), part.pieces, part.offset))
        return Receipt(part.number, "")

    async def copy_part(self, upload: Upload, number: int, source: ObjectInfo, start: int, stop: int) -> Receipt:
        def copy() -> None:
            descriptor = open_regular(self._path(source.address))
            try:
                data = _read(descriptor, start, stop - start, source.version)
            finally:
                os.close(descriptor)
            write_at(Path(upload.id), (data,), start)

        await self._run_on_upload(upload, copy)
        return Receipt(number, "")

    async def complete_upload(
        self, upload: Upload, receipts: Sequence[Receipt], *, size: int, create_only: bool
    ) -> None:
        def link() -> None:
            flush(Path(upload.id))
            _link(Path(upload.id), self._path(upload.address))
            Path(upload.id).unlink(missing_ok=True)

        await self._run_on_upload(upload, link)

    async def abort_upload(self, address: Address, upload: Upload | None) -> None:
        if upload is not None:
            await self._run(address, lambda: Path(upload.id).unlink(missing_ok=True))

    async def copy(self, source: ObjectInfo, address: Address, attributes: ObjectAttributes) -> ObjectInfo | None:
        def link() -> None:
            path = self._path(source.address)
            if _info(source.address, path).version != source.version:
                raise VersionChanged(str(source.address))
            set_attributes(path, attributes)
            flush(path)
            _link(path, self._path(address))

        try:
            await self._run(address, link)
        except KeyMissing as signal:
            raise VersionChanged(str(source.address)) from signal
        return None

    async def copy_as_is(
        self, source: ObjectInfo, address: Address, *, replace: bool, algorithm: str | None = None
    ) -> ObjectInfo | None:
        def link() -> None:
            path = self._path(source.address)
            if _info(source.address, path).version != source.version:
                raise VersionChanged(str(source.address))
            target = self._path(address)
            if not replace:
                os.utime(path)  # the new object is young, so that no collector takes it for an old one
                _link(path, target)
                return
            temporary = self._new_file(ObjectAttributes("", None, {}, {}))
            temporary.unlink()
            _link(path, temporary)
            make_folder(target.parent)
            temporary.replace(target)
            temporary.unlink(missing_ok=True)  # a link is not renamed to another one of the same file
            flush(target.parent)

        try:
            await self._run(address, link)
        except KeyMissing as signal:
            raise VersionChanged(str(source.address)) from signal
        return None

    async def delete_if(self, info: ObjectInfo) -> None:
        def unlink() -> None:
            path = self._path(info.address)
            if _info(info.address, path).version != info.version:
                raise VersionChanged(str(info.address))
            path.unlink()
            flush(path.parent)

        with suppress(KeyMissing):
            await self._run(info.address, unlink)

    async def free_space(self, bucket: str) -> int | None:
        def available() -> int:
            folder = Path(bucket)
            while not folder.exists():  # the first write makes it
                folder = folder.parent
            status = os.statvfs(folder)
            return status.f_bavail * status.f_frsize

        return await self._run(Address(bucket, ""), available)

    async def _run_on_new_file(self, address: Address, function: Callable[[], T]) -> T:
        try:
            return await self._run(address, function)
        except KeyMissing as signal:
            raise StorageUnavailable(
                f"put of {address}: the temporary file or its folder was removed during the write; write again while no "
                "other program cleans the folder"
            ) from signal.__cause__

    async def _run_on_upload(self, upload: Upload, function: Callable[[], T]) -> T:
        try:
            return await self._run(upload.address, function)
        except KeyMissing as signal:
            raise UploadGone(upload.id) from signal

    async def _run(self, address: Address, function: Callable[[], T]) -> T:
        """Do the work in a thread, to its end, and translate its errors."""
        async with self.requests:
            try:
                return await finish(asyncio.to_thread(function))
            except LakeryCloudError:  # some of ours are OSErrors too
                raise
            except OSError as error:
                raise _translate(error, address) from error

    def _path(self, address: Address) -> Path:
        """The file of a key. A folder on the way that is a link to somewhere else is refused."""
        root = Path(address.bucket)
        path = root / address.key
        try:
            is_inside = path.parent.resolve().is_relative_to(root.resolve())
        except RuntimeError:  # links that lead in a circle, before Python 3.13
            is_inside = False
        if not is_inside:
            raise AccessDenied(f"{address} lies outside of the root folder; links that lead out are not followed")
        return path

    def _new_file(self, attributes: ObjectAttributes) -> Path:
        """A new empty file in the temporary folder."""
        root = Path(self._keys.bucket)
        if not self._create_root and not root.is_dir():
            raise BucketNotFound(f"the folder {str(root)!r} does not exist. Create it, or check its name")
        make_root(root)
        path = self._path(self._keys.temporary())
        make_folder(path.parent)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        set_attributes(path, attributes)
        return path


def _check_path(key: str, error: type[Exception]) -> None:
    """Refuse a key that is no path below the root, or that no file system can hold."""
    if not key:
        return
    for segment in key.split("/"):
        if segment in ("", ".", "..") or "\0" in segment or os.sep in segment or (os.altsep and os.altsep in segment):
            raise error(f"{brief(key)} is no path below the root: no segment may be empty, '.' or '..'")
        if not _is_utf8(segment) or len(segment.encode()) > MAX_SEGMENT:
            raise error(f"a segment of {brief(key)} has over {MAX_SEGMENT} bytes of UTF-8, or is none: no file's name")


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _translate(error: OSError, address: Address) -> Exception:
    """The engine's word for an error of the operating system."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return KeyMissing(str(address))
    if isinstance(error, PermissionError) or error.errno in (errno.EROFS, errno.ELOOP):
        return AccessDenied(f"{address}: {error.strerror}; check the owner and mode of the folder")
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is not None:
        return StorageUnavailable(f"{address}: {error.strerror}; {remedy}, then try again")
    return LakeryCloudError(f"{address}: {error.strerror}")


def _link(source: Path, target: Path) -> None:
    make_folder(target.parent)
    try:
        link_new(source, target)
    except FileExistsError as error:
        raise KeyExists(str(target)) from error


def _read(descriptor: int, offset: int, size: int, version: str | None) -> bytes:
    if _version(os.fstat(descriptor)) != version:
        raise VersionChanged("the file was changed")
    return os.pread(descriptor, size, offset)


def _version(status: os.stat_result) -> str:
    return f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}"


def _info(address: Address, file: Path | int) -> ObjectInfo:
    """The description of a file, by its path or descriptor."""
    status = os.fstat(file) if isinstance(file, int) else file.lstat()
    check_regular(status)
    attributes = attributes_of(file)
    # A file in quarantine is another name of that content: the time of its own is that of the last link.
    changed = status.st_ctime if is_quarantined(address) else status.st_mtime
    return ObjectInfo(
        address,
        status.st_size,
        _version(status),
        None,
        attributes.content_type or None,
        attributes.content_encoding,
        datetime.fromtimestamp(changed, UTC),
        attributes.metadata,
        tags=attributes.tags,
    )
