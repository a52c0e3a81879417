"""`MemoryStorage`: the algorithm on a dict. For tests and examples; it forgets everything when the process ends."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NotRequired, TypedDict

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.keys import Address
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
from lakery_cloud.engine.settings import EngineSettings, keywords_of, redefine
from lakery_cloud.engine.transport import Transport
from lakery_cloud.streams.parts import Part

MiB = 1024**2
GiB = 1024**3

MEMORY_LIMITS = Limits(
    max_put_size=5 * GiB,
    min_part_size=1,
    max_part_size=5 * GiB,
    max_parts=10_000,
    max_object_size=5 * GiB,
    max_copy_size=None,
    copy_part_size=512 * MiB,
)

READ_SIZE = 256 * 1024


class MemoryStorageData(TypedDict):
    """Storage data of `MemoryStorage`."""

    key: str
    hash: NotRequired[str]
    size: NotRequired[int]


@dataclass(frozen=True, slots=True)
class MemoryObject:
    """One object in memory."""

    data: bytes
    attributes: ObjectAttributes
    version: str
    modified: datetime


@dataclass(slots=True)
class MemoryBucket:
    """What a `MemoryStorage` holds: objects and incomplete uploads, by key and by upload id."""

    objects: dict[str, MemoryObject] = field(default_factory=dict)
    uploads: dict[str, tuple[Upload, dict[int, bytes]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySettings(EngineSettings):
    """Settings of `MemoryStorage`."""

    bucket: str = field(
        default="memory", kw_only=False, metadata={"meaning": "A name, for messages only.", "in_files": False}
    )
    limits: Limits = redefine(EngineSettings, "limits", MEMORY_LIMITS)


class MemoryStorage(ObjectStorage[MemoryStorageData]):
    """Content-addressed objects in memory. A pickled storage includes its content.

    The arguments are the fields of `MemorySettings`.

    Raises:
        ConfigError: A setting is wrong.
    """

    settings_class = MemorySettings

    name = "lakery_cloud.memory@v1"
    url_scheme = "memory"
    place_names = ("key",)

    @keywords_of(MemorySettings)
    def __init__(self, settings: MemorySettings) -> None:
        super().__init__(settings.bucket, settings)
        self.contents = MemoryBucket()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.keys.bucket!r}, prefix={self.keys.prefix!r})"

    @asynccontextmanager
    async def _open_transport(self) -> AsyncGenerator[Transport]:
        yield MemoryTransport(self.contents, self.settings)


class MemoryTransport(Transport):
    """The requests, on dicts. Each docstring of the base class says what a method promises."""

    _numbers = itertools.count(1)
    uploads_to_content = True

    def __init__(self, contents: MemoryBucket, settings: EngineSettings) -> None:
        super().__init__(
            max_concurrent_requests=settings.max_concurrent_requests,
            max_concurrent_reads=settings.max_concurrent_reads,
        )
        self._contents = contents

    def checks_hash(self, algorithm: str) -> bool:
        return False

    async def put(self, address: Address, data: bytes, attributes: ObjectAttributes) -> None:
        await self._turn()
        self._create(address, data, attributes, create_only=True)

    async def head(self, address: Address) -> ObjectInfo | None:
        await self._turn()
        found = self._contents.objects.get(address.key)
        return _info(address, found) if found else None

    async def has_bucket(self, bucket: str) -> bool:
        return True

    @asynccontextmanager
    async def get(
        self, address: Address, *, start: int = 0, stop: int | None = None, version: str | None = None
    ) -> AsyncGenerator[Body]:
        async with self.reads:
            await asyncio.sleep(0)
            found = self._contents.objects.get(address.key)
            if found is None:
                raise KeyMissing(str(address))
            if version not in (None, found.version):
                raise VersionChanged(str(address))
            yield Body(_info(address, found), _chunks(found.data[start:stop]), start)

    async def delete(self, address: Address, *, version_id: str | None = None) -> None:
        await self._turn()
        self._contents.objects.pop(address.key, None)

    async def copy_as_is(
        self, source: ObjectInfo, address: Address, *, replace: bool, algorithm: str | None = None
    ) -> ObjectInfo | None:
        await self._turn()
        found = self._pinned(source)
        self._create(address, found.data, found.attributes, create_only=not replace)
        return None

    async def delete_if(self, info: ObjectInfo) -> None:
        await self._turn()
        found = self._contents.objects.get(info.address.key)
        if found is not None and found.version != info.version:
            raise VersionChanged(str(info.address))
        self._contents.objects.pop(info.address.key, None)

    async def list(self, bucket: str, root: str) -> AsyncIterator[ObjectInfo]:
        await self._turn()
        for key, found in sorted(self._contents.objects.items()):
            if key.startswith(root) and "/" not in key.removeprefix(root):
                yield _info(Address(bucket, key), found)

    async def tags(self, address: Address) -> Mapping[str, str]:
        await self._turn()
        found = self._contents.objects.get(address.key)
        if found is None:
            raise KeyMissing(str(address))
        return found.attributes.tags

    async def begin_upload(self, address: Address, attributes: ObjectAttributes, *, is_temporary: bool) -> Upload:
        await self._turn()
        upload = Upload(address, str(next(self._numbers)), attributes, is_temporary)
        self._contents.uploads[upload.id] = (upload, {})
        return upload

    async def upload_part(self, upload: Upload, part: Part) -> Receipt:
        await self._turn()
        self._parts(upload)[part.number] = part.data
        return Receipt(part.number, str(part.number))

    async def copy_part(self, upload: Upload, number: int, source: ObjectInfo, start: int, stop: int) -> Receipt:
        await self._turn()
        self._parts(upload)[number] = self._pinned(source).data[start:stop]
        return Receipt(number, str(number))

    async def complete_upload(
        self, upload: Upload, receipts: Sequence[Receipt], *, size: int, create_only: bool
    ) -> None:
        await self._turn()
        parts = self._parts(upload)
        data = b"".join(parts[receipt.number] for receipt in receipts)
        self._create(upload.address, data, upload.attributes, create_only=create_only)
        del self._contents.uploads[upload.id]

    async def abort_upload(self, address: Address, upload: Upload | None) -> None:
        await self._turn()
        for begun, _ in list(self._contents.uploads.values()):
            if begun.address == address and upload in (None, begun):
                del self._contents.uploads[begun.id]

    async def list_uploads(self, bucket: str, root: str) -> AsyncIterator[Upload]:
        await self._turn()
        for upload, _ in list(self._contents.uploads.values()):
            if upload.address.key.startswith(root):
                yield upload

    async def copy(self, source: ObjectInfo, address: Address, attributes: ObjectAttributes) -> ObjectInfo | None:
        await self._turn()
        self._create(address, self._pinned(source).data, attributes, create_only=True)
        return None

    async def _turn(self) -> None:
        """Give way to other tasks, as a request would."""
        async with self.requests:
            await asyncio.sleep(0)

    def _create(self, address: Address, data: bytes, attributes: ObjectAttributes, *, create_only: bool) -> None:
        if create_only and address.key in self._contents.objects:
            raise KeyExists(str(address))
        version = str(next(self._numbers))
        self._contents.objects[address.key] = MemoryObject(data, attributes, version, datetime.now(UTC))

    def _parts(self, upload: Upload) -> dict[int, bytes]:
        if upload.id not in self._contents.uploads:
            raise UploadGone(upload.id)
        return self._contents.uploads[upload.id][1]

    def _pinned(self, source: ObjectInfo) -> MemoryObject:
        found = self._contents.objects.get(source.address.key)
        if found is None or found.version != source.version:
            raise VersionChanged(str(source.address))
        return found


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), READ_SIZE):
        yield data[start : start + READ_SIZE]


def _info(address: Address, found: MemoryObject) -> ObjectInfo:
    attributes = found.attributes
    return ObjectInfo(
        address,
        len(found.data),
        found.version,
        None,
        attributes.content_type,
        attributes.content_encoding,
        found.modified,
        attributes.metadata,
        tags=attributes.tags,
    )
