"""An inventory that was read: its rows on disk by the first digits of their hashes, in place of listings of the bucket.

An inventory is hours old at least, and may have an object twice. So duplicates are dropped, and a job that changes an
object looks at it again.
"""

import asyncio
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Self

from lakery_cloud.engine.keys import KeySpace
from lakery_cloud.engine.model import ObjectInfo
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import ConfigError, IntegrityError, brief
from lakery_cloud.maintenance.inventories import azure, batch, csv_files, gcs, orc_files, parquet_files, s3
from lakery_cloud.maintenance.inventories.places import LocalFiles, Objects, Place
from lakery_cloud.maintenance.inventories.report import ANY, Columns, DataFile, Report, check_rows, reason
from lakery_cloud.maintenance.known_checksums import join, split
from lakery_cloud.maintenance.shards import Listing
from lakery_cloud.maintenance.spool import DIGITS, Spool

READERS = {"csv": csv_files.read_rows, "parquet": parquet_files.read_rows, "orc": orc_files.read_rows}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Inventory(Listing):
    """The content of a storage, as an inventory has it. Use it in a `with` block, which removes its files.

    Attributes:
        name: The kind of inventory and the MD5 of its manifest.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._spool = Spool()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def count(self, hash_prefix: str) -> float:
        """About how many objects have a hash that begins with these digits."""
        counts = self._spool.counts
        if len(hash_prefix) <= DIGITS:
            return sum(number for digits, number in counts.items() if digits.startswith(hash_prefix))
        return counts[hash_prefix[:DIGITS]] / float(16 ** (len(hash_prefix) - DIGITS))

    def entries(self, keys: KeySpace, hash_prefix: str) -> list[tuple[str, ObjectInfo]]:
        """The content whose hash begins with these digits, in the order of the hashes."""
        return _entries(self._spool.lines_of(hash_prefix), keys)

    def part(self, hash_prefix: str) -> Listing:
        """The same for these digits alone, which can be pickled."""
        return _Part(self.name, zlib.compress("\n".join(self._spool.lines_of(hash_prefix)).encode(), level=1))

    def add(self, content_hash: str, info: ObjectInfo) -> None:
        """Add an object."""
        changed = "" if info.modified is None else (info.modified - _EPOCH) // _MICROSECOND
        texts = [info.version, join(info.checksums), info.content_type, info.storage_class]
        fields = [text if text and text.isprintable() else "" for text in texts]
        self._spool.add("\t".join([content_hash, str(info.size), str(changed), *fields]))

    @property
    def folder(self) -> Path:
        """A folder for temporary files."""
        return self._spool.folder


class _Part(Listing):
    """The part of an inventory that goes to another process."""

    def __init__(self, name: str, lines: bytes) -> None:
        self.name = name
        self._lines = lines

    def count(self, hash_prefix: str) -> float:
        return sum(line.startswith(hash_prefix) for line in self._each())

    def entries(self, keys: KeySpace, hash_prefix: str) -> list[tuple[str, ObjectInfo]]:
        return _entries((line for line in self._each() if line.startswith(hash_prefix)), keys)

    def part(self, hash_prefix: str) -> Listing:
        return self

    def _each(self) -> list[str]:
        return zlib.decompress(self._lines).decode().splitlines()


def _entries(lines: Iterable[str], keys: KeySpace) -> list[tuple[str, ObjectInfo]]:
    found: dict[str, ObjectInfo] = {}
    for line in lines:
        content_hash, size, changed, *texts = line.split("\t")
        version, checksums, content_type, storage_class = (text or None for text in texts)
        modified = _EPOCH + int(changed) * _MICROSECOND if changed else None
        info = ObjectInfo(
            keys.content(content_hash),
            int(size),
            version,
            content_type=content_type,
            modified=modified,
            storage_class=storage_class,
            checksums=split(checksums or ""),
        )
        known = found.get(content_hash)
        if known is None or known.modified is None or (modified is not None and modified > known.modified):
            found[content_hash] = info
    return sorted(found.items())


async def read_inventory(
    storage: ObjectStorage[Any], manifest: str | Path, *, bucket: ObjectStorage[Any] | None = None
) -> Inventory:
    """Read the inventory of a storage's bucket, and check its checksums.

    S3 Inventory (CSV, Parquet, ORC), inventory reports of Cloud Storage (CSV, Parquet) and Azure Blob Storage inventories
    (CSV, Parquet) are known, and reports of S3 Batch Operations jobs that compute checksums. Rows of other prefixes, of
    versions that are not current and of deleted objects are skipped.

    Args:
        storage: The storage whose content the inventory lists.
        manifest: The manifest: the path of a file; with `bucket` a key.
        bucket: Any storage of the bucket that has the inventory.

    Raises:
        ConfigError: A file or a column is missing, the run of the inventory has failed, or it is of another bucket.
        IntegrityError: A checksum, a size or a number of rows is wrong.
        MissingDependency: pyarrow, which reads Parquet and ORC, is not installed.
        LakeryCloudError: The errors of the bucket's storage.
    """
    place: Place = LocalFiles(manifest) if bucket is None else Objects(bucket, str(manifest))
    where = f"the inventory {place}"
    text = await place.read(place.name)
    if text is None:
        raise ConfigError(f"{where} does not exist")
    report = _report_of(text, where=where)
    md5 = hashlib.md5(text, usedforsecurity=False).hexdigest()
    if report.checksum_ending is not None:
        await _check_manifest(place, report.checksum_ending, md5, where=where)
    own_bucket = storage.keys.bucket
    if report.bucket is not None and report.bucket != own_bucket:
        raise ConfigError(f"{where} is of the bucket {brief(report.bucket)}, not of {own_bucket!r}")
    inventory, rows = Inventory(f"{report.kind}, manifest {md5}"), 0
    try:
        for file in report.files:
            path = await place.fetch(file.name, inventory.folder)
            rows += await asyncio.to_thread(_add_file, inventory, report, file, path, storage.keys)
            if path.is_relative_to(inventory.folder):
                path.unlink()
        check_rows(report, rows)
    except BaseException:
        inventory.__exit__()
        raise
    return inventory


def _report_of(text: bytes, *, where: str) -> Report:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} is not JSON: {reason(error)}; name its manifest, such as manifest.json") from None
    if isinstance(document, dict):
        for provider in (s3, gcs, azure, batch):
            if provider.is_manifest(document):
                report: Report = provider.read_manifest(document, where=where)
                return report
    raise ConfigError(
        f"{where} is no manifest of S3 Inventory, Storage Insights, Azure Blob inventory or S3 Batch Operations"
    )


async def _check_manifest(place: Place, ending: str, md5: str, *, where: str) -> None:
    name = f"{place.name.removesuffix('.json')}{ending}"
    expected = await place.read(name)
    if expected is None:
        raise ConfigError(
            f"{where} has no {name} beside it; the provider writes it at last: wait for it, or copy it too"
        )
    if expected.decode("ascii", "replace").strip().lower() != md5:
        raise IntegrityError(f"{where} has the MD5 {md5}, but {name} says {brief(expected.strip())}")


def _add_file(inventory: Inventory, report: Report, file: DataFile, path: Path, keys: KeySpace) -> int:
    """Check a file, add the current objects of its rows, and return the number of all rows."""
    where = f"the file {brief(file.name)} of the inventory"
    _check_file(file, path, where=where)
    row = 0
    rows = READERS[report.file_format](path, report, where=where)
    for row, values in enumerate(rows, start=1):
        try:
            found = _object_of(values, report, keys)
        except (ValueError, TypeError, OverflowError) as error:
            raise IntegrityError(f"row {row} of {where} can't be read: {reason(error)}") from None
        if found is not None:
            inventory.add(*found)
    return row


def _check_file(file: DataFile, path: Path, *, where: str) -> None:
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise IntegrityError(f"{where} has {size} bytes, but the manifest says {file.size}")
    if file.md5 is not None:
        with path.open("rb") as content:
            md5 = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if md5 != file.md5:
            raise IntegrityError(f"{where} has the MD5 {md5}, but the manifest says {file.md5}")


def _object_of(values: Sequence[Any], report: Report, keys: KeySpace) -> tuple[str, ObjectInfo] | None:
    """The content that a row describes; None if it is not the current content of the storage."""
    columns = report.columns
    key, size, modified, version, bucket, content_type, storage_class, *others = values
    marks, checksums = others[: len(columns.noncurrent)], others[len(columns.noncurrent) :]
    if not isinstance(key, str):
        raise TypeError(f"the key is {brief(key)}")
    if columns.bucket is None:
        bucket, _, key = key.partition("/")
    if bucket is not None and bucket != keys.bucket:
        if report.bucket is not None:
            raise ValueError(f"the row is of the bucket {brief(bucket)}")
        return None
    content_hash = keys.hash_of(key)
    if content_hash is None or _is_noncurrent(marks, columns.noncurrent):
        return None
    size = int(size) if columns.size else 0
    if size < 0:
        raise ValueError(f"the size is {size}")
    name = str(version) if version else None
    if name and columns.is_version_quoted and not name.endswith('"'):
        name = f'"{name}"'
    info = ObjectInfo(
        keys.content(content_hash),
        size,
        name,
        content_type=str(content_type) if content_type else None,
        modified=_time(modified) if columns.modified else None,
        storage_class=str(storage_class) if storage_class else None,
        checksums=_checksums(checksums, columns),
    )
    return content_hash, info


def _checksums(values: Sequence[Any], columns: Columns) -> dict[str, str]:
    pairs = zip(values, columns.checksums.values(), strict=True)
    return dict(found for value, read in pairs if (found := read(value)) is not None)


def _is_noncurrent(marks: Iterable[Any], values: Mapping[str, frozenset[str]]) -> bool:
    return any(
        str(mark).lower() in noncurrent if noncurrent is not ANY else True
        for mark, noncurrent in zip(marks, values.values(), strict=True)
        if mark not in (None, "")
    )


def _time(value: Any) -> datetime:
    """A time in any of the forms that inventories have."""
    match value:
        case datetime():
            found = value
        case int():  # milliseconds, as Azure has them in Parquet
            found = _EPOCH + timedelta(milliseconds=value)
        case str() if value[:1].isdecimal():
            found = datetime.fromisoformat(value)
        case str():
            found = parsedate_to_datetime(value)
        case _:
            raise TypeError(f"the time of the last change is {brief(value)}")
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
