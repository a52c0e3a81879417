"""Content hashes and checksums from tables: columns of CSV and Parquet files, JSON lines, and queries of SQL databases."""

import csv
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lakery_cloud.engine.checksums import DIGITS as CHECKSUMS
from lakery_cloud.engine.keys import is_hash
from lakery_cloud.errors import ConfigError, InvalidRecord, MissingDependency, StorageUnavailable, brief
from lakery_cloud.maintenance.known_checksums import as_hex
from lakery_cloud.records import ContentRecord
from lakery_cloud.redaction import redact

COLUMN = "content_hash"
ROWS_AT_A_TIME = 10_000


def hash_of_value(value: object) -> str:
    """The content hash in a value of a column: the hash itself, or the JSON of a record.

    Raises:
        InvalidRecord: It is neither. A value that was skipped would make its content garbage.
    """
    if isinstance(value, str) and is_hash(value):
        return value
    if isinstance(value, str | bytes) and value[:1] in ("{", b"{"):
        return ContentRecord.from_json(value).content_hash
    raise InvalidRecord(f"{brief(value)} is neither a content hash nor a record")


def hashes_of_csv(path: str | Path, *, column: str = COLUMN) -> Iterator[str]:
    """The hashes in a column of a CSV file with a header.

    Raises:
        ConfigError: The file or the column does not exist.
        InvalidRecord: A value is neither a hash nor a record; the message has its line.
    """
    for row, (value,) in _rows_of_csv(path, [column]):
        yield _named(path, row, value)


def hashes_of_parquet(path: str | Path, *, column: str = COLUMN) -> Iterator[str]:
    """The hashes in a column of a Parquet file, which is read in batches.

    Raises:
        ConfigError: The file or the column does not exist, or the file is not Parquet.
        InvalidRecord: A value is neither a hash nor a record; the message has its row.
        MissingDependency: pyarrow is not installed.
    """
    for row, (value,) in _rows_of_parquet(path, [column]):
        yield _named(path, row, value)


def checksums_of_file(path: str | Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The checksums in a file: content hash, and algorithm -> checksum in hexadecimal.

    A `.csv` or `.parquet` table has a column `content_hash`, and columns named after the algorithms `sha256`, `sha1`,
    `md5`, `crc64nvme`, `crc32c` or `crc32`, with checksums in hexadecimal or base64. Any other file has JSON lines with
    these fields, where a line with a `record` needs no `content_hash`. Rows without a checksum are left out.

    Raises:
        ConfigError: The file does not exist, or has no hash or no checksum at all.
        InvalidRecord: A hash or checksum is malformed; the message has its row.
        MissingDependency: pyarrow, which reads Parquet files, is not installed.
    """
    suffix, has_some = Path(path).suffix.lower(), False
    rows = _rows_of_csv if suffix == ".csv" else _rows_of_parquet if suffix in (".parquet", ".pq") else _rows_of_json
    for row, (value, *checksums) in rows(path, [COLUMN], CHECKSUMS):
        given = {name: checksum for name, checksum in zip(CHECKSUMS, checksums, strict=True) if checksum}
        if not given:
            continue
        has_some, content_hash = True, _named(path, row, value)
        try:
            yield content_hash, {name: as_hex(name, checksum) for name, checksum in given.items()}
        except InvalidRecord as error:
            raise InvalidRecord(f"row {row} of {path}: {error}") from None
    if not has_some:
        raise ConfigError(f"{str(path)!r} has no checksum: none of {', '.join(CHECKSUMS)} in any row")


def hashes_of_query(url: str, query: str) -> Iterator[str]:
    """The hashes in the first column of the rows of a query.

    Args:
        url: A URL of SQLAlchemy, such as `postgresql+psycopg://user@host/database`. No error shows its password.
        query: One SELECT.

    Raises:
        ConfigError: The URL or the query is wrong.
        StorageUnavailable: The database can't be reached, or failed.
        InvalidRecord: A value is neither a hash nor a record; the message has its row.
        MissingDependency: SQLAlchemy, or the driver of the URL, is not installed.
    """
    try:
        import sqlalchemy
        from sqlalchemy import exc
    except ImportError as error:
        raise MissingDependency('queries need SQLAlchemy: pip install "lakery-cloud[sql]"') from error
    try:
        engine = sqlalchemy.create_engine(url)
    except exc.ArgumentError as error:
        raise ConfigError("the URL of the database is no URL of SQLAlchemy, such as sqlite:///records.db") from error
    except ImportError as error:
        raise MissingDependency(f"the driver of the database is not installed: {error}") from error
    name = engine.url.render_as_string(hide_password=True)
    try:
        with engine.connect().execution_options(stream_results=True, yield_per=ROWS_AT_A_TIME) as connection:
            for row, values in enumerate(connection.execute(sqlalchemy.text(query)), start=1):
                yield _named(name, row, values[0])
    except exc.OperationalError as error:
        raise StorageUnavailable(f"the database {name} failed: {redact(str(error.orig))}") from error
    except exc.SQLAlchemyError as error:
        raise ConfigError(f"the query of the database {name} failed: {redact(str(error))}") from error
    finally:
        engine.dispose()


Row = tuple[int, list[Any]]
"""The number of a row, and the values of the columns that were asked for."""


def _rows_of_csv(path: str | Path, needed: Collection[str], wanted: Collection[str] = ()) -> Iterator[Row]:
    with _opened(path), open(path, newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        _check_columns(path, needed, rows.fieldnames or ())
        for row in rows:
            yield rows.line_num, [row.get(name) for name in (*needed, *wanted)]


def _rows_of_parquet(path: str | Path, needed: Collection[str], wanted: Collection[str] = ()) -> Iterator[Row]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingDependency('Parquet files need pyarrow: pip install "lakery-cloud[parquet]"') from error
    with _opened(path):
        try:
            file = parquet.ParquetFile(path)
        except pa.ArrowInvalid as error:
            raise ConfigError(f"{str(path)!r} is no Parquet file: {error}") from error
        with file:
            names = file.schema_arrow.names
            _check_columns(path, needed, names)
            row, columns = 0, [*needed, *(name for name in wanted if name in names)]
            for batch in file.iter_batches(batch_size=ROWS_AT_A_TIME, columns=columns):
                for values in batch.to_pylist():
                    row += 1
                    yield row, [values.get(name) for name in (*needed, *wanted)]


def _rows_of_json(path: str | Path, needed: Collection[str], wanted: Collection[str] = ()) -> Iterator[Row]:
    with _opened(path), open(path, encoding="utf-8") as file:
        for row, line in enumerate(file, start=1):
            if line.strip():
                fields = _fields(path, row, line)
                yield row, [fields.get(name) for name in (*needed, *wanted)]


def _fields(path: str | Path, row: int, line: str) -> Mapping[str, Any]:
    """The fields of a JSON line, and of the record in it."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidRecord(f"row {row} of {path}: it is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise InvalidRecord(f"row {row} of {path}: {brief(values)} is no JSON object")
    record = values.get("record")
    return {**record, **values} if isinstance(record, dict) else values


@contextmanager
def _opened(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{str(path)!r} can't be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{str(path)!r} can't be read: {error}") from error


def _check_columns(path: str | Path, needed: Collection[str], columns: Collection[str]) -> None:
    for column in needed:
        if column not in columns:
            raise ConfigError(f"{str(path)!r} has no column {column!r}, but {', '.join(map(repr, columns)) or 'none'}")


def _named(source: str | Path, row: int, value: object) -> str:
    try:
        return hash_of_value(value)
    except InvalidRecord as error:
        raise InvalidRecord(f"row {row} of {source}: {error}") from None
