"""A read-only fsspec file system, so that `pd.read_parquet("lakery://hot/<hash>")` works."""

import errno
import os
from functools import partial
from typing import Any

from fsspec import AbstractFileSystem

from lakery_cloud import sync
from lakery_cloud.config.building import build_storage
from lakery_cloud.config.configuration import Configuration
from lakery_cloud.config.urls import split_target, storage_from_url
from lakery_cloud.content_file import ContentFile, ReadRange
from lakery_cloud.engine.keys import is_hash
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import NoStorageData
from lakery_cloud.records import ContentRecord

Opened = sync.ObjectStorage[ObjectStorage[Any]]


class LakeryFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The content of storages as files without names: `lakery://<storage>/<content hash>`.

    The storage is the key of a configured storage, or a URL such as `s3://bucket/prefix?region=eu-central-1`, whose query
    follows the hash. The file system never writes. A file that is read from start to end is verified.

    Args:
        config: Path of the configuration; by default as for `Configuration.load`.
        options: As for every fsspec file system.
    """

    protocol = "lakery"
    root_marker = ""

    def __init__(self, config: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._config = config
        self._opened: dict[str, Opened] = {}

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Size, content type and encoding of content; without a hash, the storage as a folder.

        Raises:
            FileNotFoundError: The storage has no such content.
        """
        path = self._strip_protocol(path)
        if not is_hash(split_target(path)[1]):
            self._storage(path)
            return {"name": path, "size": 0, "type": "directory"}
        record = self._record(path)[1]
        return {
            "name": path,
            "size": record.content_size,
            "type": "file",
            "content_type": record.content_type,
            "content_encoding": record.content_encoding,
            "content_hash": f"{record.content_hash_algorithm}:{record.content_hash}",
        }

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """All content of a storage, or the one of a hash."""
        path = self._strip_protocol(path)
        if is_hash(split_target(path)[1]):
            found = [self.info(path)]
        else:
            storage = self._storage(path)
            found = [
                {
                    "name": _joined(path, storage.wrapped.keys.hash_of(info.address.key) or ""),
                    "size": info.size,
                    "type": "file",
                    "modified": info.modified,
                }
                for info in storage.list()
            ]
        return found if detail else [entry["name"] for entry in found]

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """The bytes from `start` to `end`, which count from the end if they are negative."""
        storage, record = self._record(self._strip_protocol(path))
        first, stop, _step = slice(start, end).indices(record.content_size)
        return _range_of(storage, record)(first, max(first, stop))

    def modified(self, path: str) -> Any:
        """Time at which the content was stored."""
        storage, record = self._record(self._strip_protocol(path))
        return storage.stat(storage.wrapped.deserialize_storage_data(record.storage_data)).info.modified

    def _open(self, path: str, mode: str = "rb", **_: Any) -> ContentFile:
        if mode != "rb":
            raise OSError(errno.EROFS, "lakery:// is read-only; save content by a StorageRegistry", path)
        storage, record = self._record(path)
        return ContentFile(record, _range_of(storage, record))

    def _record(self, path: str) -> tuple[Opened, ContentRecord]:
        place, content_hash = split_target(path)
        storage = self._storage(place)
        try:
            digest = storage.digest_of(content_hash)
        except NoStorageData as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        return storage, ContentRecord.of(storage.wrapped, digest, storage.wrapped.storage_data_of(digest))

    def _storage(self, place: str) -> Opened:
        if place not in self._opened:
            is_url = "://" in place
            storage = storage_from_url(place) if is_url else build_storage(Configuration.load(self._config), place)
            self._opened[place] = sync.open(storage)
        return self._opened[place]


def _joined(place: str, content_hash: str) -> str:
    """The path of content in a storage; the query of a URL comes last."""
    path, mark, query = place.partition("?")
    return f"{path.rstrip('/')}/{content_hash}{mark}{query}"


def _range_of(storage: Opened, record: ContentRecord) -> ReadRange:
    return partial(storage.read_range, storage.wrapped.deserialize_storage_data(record.storage_data))
