"""What all inventories have in common: a manifest that names files, and files with a row for each object."""

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lakery_cloud.engine.checksums import DIGITS
from lakery_cloud.errors import LONGEST_QUOTE, ConfigError, IntegrityError, brief

FileFormat = Literal["csv", "parquet", "orc"]

ReadChecksum = Callable[[Any], tuple[str, str] | None]
"""Reads algorithm and checksum in hexadecimal from a value; None if it has none of a whole object."""
ANY = frozenset[str]()
"""Any value but an empty one."""
NAMED = ("key", "size", "modified", "version", "bucket", "content_type", "storage_class")
"""The attributes of `Columns` that each name a column."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file with rows.

    Attributes:
        name: Its name in the manifest.
        size: Its size in bytes, if the manifest has it.
        md5: Its MD5 in hexadecimal, if the manifest has it.
    """

    name: str
    size: int | None = None
    md5: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The columns of a provider's inventories, with names as `plain_name` makes them.

    Attributes:
        key: The key, or on Azure the container, a slash and the key.
        size: The size in bytes, if it has a column.
        modified: The time of the last change, if it has a column.
        version: What `ObjectInfo.version` has, with or without quotes.
        bucket: The bucket, if it has a column of its own.
        content_type: The media type, if there is a column.
        storage_class: The storage class or access tier, if there is a column.
        noncurrent: Column -> the values, in lower case, of rows that describe no current object.
        checksums: Column -> a function that reads the checksum of the whole object in a value.
        is_version_quoted: Whether the store puts the version into quotes.
    """

    key: str
    size: str | None = None
    modified: str | None = None
    version: str | None = None
    bucket: str | None = None
    content_type: str | None = None
    storage_class: str | None = None
    noncurrent: Mapping[str, frozenset[str]] = field(default_factory=dict)
    checksums: Mapping[str, ReadChecksum] = field(default_factory=dict)
    is_version_quoted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CSVForm:
    """The form of CSV files, which may be compressed by gzip.

    Attributes:
        delimiter: What separates values.
        columns: The columns; None if the first row has them.
        is_key_encoded: Whether keys are URL-encoded.
        is_ragged: Whether rows may have other numbers of values.
    """

    delimiter: str = ","
    columns: Sequence[str] | None = None
    is_key_encoded: bool = False
    is_ragged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A manifest.

    Attributes:
        kind: The provider's name for such inventories.
        files: The files.
        file_format: Their format.
        columns: Their columns.
        bucket: The bucket that they describe; None if each row names it.
        csv: The form of CSV files.
        rows: How many rows they have at least, if the manifest tells.
        checksum_ending: What replaces `.json` in the name of the file with the MD5 of the manifest; None if there is none.
    """

    kind: str
    files: tuple[DataFile, ...]
    file_format: FileFormat
    columns: Columns
    bucket: str | None = None
    csv: CSVForm = CSVForm()
    rows: int | None = None
    checksum_ending: str | None = None


def plain_name(column: str) -> str:
    """The name of a column without the differences between formats: `Last-Modified` and `last_modified` are the same."""
    return column.strip().lower().replace("-", "").replace("_", "")


def find_columns(header: Iterable[str], columns: Columns, *, where: str) -> list[int | None]:
    """The positions of the columns, in the order of the attributes of `NAMED`, and of `noncurrent` and `checksums`.

    Raises:
        ConfigError: A column that is needed is missing.
    """
    named = list(header)
    positions = {plain_name(name): position for position, name in enumerate(named)}
    needed = [name for name in (columns.key, columns.size, columns.modified) if name and name not in positions]
    if needed:
        raise ConfigError(
            f"{where} has no column {' and no column '.join(map(repr, needed))}, but {brief(', '.join(named))}; add it to "
            "the configuration of the inventory"
        )
    wanted = (*(getattr(columns, name) for name in NAMED), *columns.noncurrent, *columns.checksums)
    return [positions.get(name) if name else None for name in wanted]


def rows_of(batch: Any, names: Sequence[str], positions: Iterable[int | None]) -> Iterator[Sequence[Any]]:
    """The rows of a record batch of pyarrow, as `find_columns` orders their values; None for a missing column."""
    nothing = [None] * batch.num_rows
    yield from zip(
        *(nothing if position is None else batch.column(names[position]).to_pylist() for position in positions),
        strict=True,
    )


def required(document: Mapping[str, Any], name: str, kind: type, *, where: str) -> Any:
    """A field of a manifest.

    Raises:
        ConfigError: It is missing, or of another type.
    """
    value = document.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ConfigError(f"the field {name!r} of {where} must be of the type {kind.__name__}, not {brief(value)}")
    return value


def check_rows(report: Report, rows: int) -> None:
    """Compare the number of rows with the manifest.

    Raises:
        IntegrityError: There are fewer.
    """
    if report.rows is not None and rows < report.rows:
        raise IntegrityError(
            f"the files of the inventory have {rows} rows, but its manifest says {report.rows}; use another inventory"
        )


def in_base64(algorithm: str) -> ReadChecksum:
    """A reader of checksums in base64."""

    def read(value: Any) -> tuple[str, str] | None:
        if not value:
            return None
        checksum = base64.b64decode(value, validate=True).hex()
        if len(checksum) != DIGITS[algorithm]:
            raise ValueError(f"{brief(value)} is no {algorithm}")
        return algorithm, checksum

    return read


def reason(error: Exception) -> str:
    """What an error says, shortened: it may quote a value of any length."""
    text = str(error)
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}..."
