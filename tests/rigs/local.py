"""The rigs of the storages that have no server: `MemoryStorage` and `FileStorage`."""

import contextlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.providers.file import FileStorage
from lakery_cloud.providers.file.attributes import ATTRIBUTES, attributes_of
from lakery_cloud.providers.memory import MemoryObject, MemoryStorage
from lakery_cloud.testing import RawObject
from tests.rigs.base import PairRig


class MemoryRig(PairRig):
    """`MemoryStorage`: storages of one rig share their contents."""

    name = "MemoryStorage"
    storage_class = MemoryStorage
    part_size = 1000
    bucket = "memory"

    def __init__(self) -> None:
        self._contents = MemoryStorage().contents

    def storage(self, **options: Any) -> MemoryStorage:
        storage = MemoryStorage(**{"part_size": self.part_size, **options})
        storage.contents = self._contents
        return storage

    def elsewhere(self) -> MemoryStorage:
        return MemoryStorage()

    async def put(self, key: str, data: bytes) -> None:
        plain = ObjectAttributes("application/octet-stream", None, {}, {})
        self._contents.objects[key] = MemoryObject(data, plain, str(uuid.uuid4()), None)

    async def get(self, key: str) -> RawObject | None:
        found = self._contents.objects.get(key)
        if found is None:
            return None
        attributes = found.attributes
        return RawObject(
            found.data, attributes.content_type, attributes.content_encoding, attributes.tags, attributes.metadata
        )

    async def stored_metadata(self, key: str) -> Mapping[str, str]:
        return self._contents.objects[key].attributes.metadata

    async def delete(self, key: str) -> None:
        self._contents.objects.pop(key, None)

    async def keys(self) -> list[str]:
        return list(self._contents.objects)

    async def uploads(self) -> list[str]:
        return [upload.address.key for upload, _ in self._contents.uploads.values()]


class FileRig(PairRig):
    """`FileStorage` in a new folder."""

    name = "FileStorage"
    storage_class = FileStorage
    part_size = 1000

    def __init__(self, root: Path) -> None:
        self._root = root / "root"
        self._elsewhere = root / "elsewhere"
        self.bucket = str(self._root)

    def storage(self, **options: Any) -> FileStorage:
        return FileStorage(self._root, **{"part_size": self.part_size, **options})

    def elsewhere(self) -> FileStorage:
        return FileStorage(self._elsewhere, create=False, part_size=self.part_size)

    def url(self, prefix: str = "", *, bucket: str | None = None, **settings: Any) -> str:
        """The URL of a storage in the rig's folder, or in another one that the storage won't make."""
        folder = Path(bucket or self.bucket) / prefix
        query = urlencode({**settings, "create": "false"} if bucket else settings)
        return f"file://{quote(str(folder))}{'?' if query else ''}{query}"

    async def put(self, key: str, data: bytes) -> None:
        path = self._root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    async def get(self, key: str) -> RawObject | None:
        path = self._root / key
        if not path.is_file():
            return None
        found = attributes_of(path)
        return RawObject(path.read_bytes(), found.content_type, found.content_encoding, found.tags, found.metadata)

    async def stored_metadata(self, key: str) -> Mapping[str, str]:
        with contextlib.suppress(OSError):  # a file system without extended attributes
            return {ATTRIBUTES: os.getxattr(self._root / key, ATTRIBUTES).decode()}
        return {}

    async def delete(self, key: str) -> None:
        (self._root / key).unlink(missing_ok=True)

    async def keys(self) -> list[str]:
        return [str(path.relative_to(self._root)) for path in self._root.rglob("*") if path.is_file()]

    async def uploads(self) -> list[str]:
        return []
