"""Tables that commands write: Parquet, CSV, or JSON lines."""

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lakery_cloud.cli.words import STANDARD_INPUT
from lakery_cloud.errors import ConfigError, MissingDependency

COLUMNS = (
    *("content_hash", "size", "modified", "version", "content_type", "storage_class"),
    *("md5", "crc64nvme", "crc32c"),
)

Write = Callable[[Sequence[Mapping[str, Any]]], None]
"""Writes rows."""


@contextmanager
def open_table(name: str, *, is_json: bool = False) -> Iterator[Write]:
    """Write a table to a file, which appears when it is complete, or to standard output.

    The end of the name tells the format, unless it is JSON. Parquet files have a group of rows for each call.

    Raises:
        ConfigError: The file can't be written.
        MissingDependency: pyarrow, which writes Parquet files, is not installed.
    """
    if name == STANDARD_INPUT:
        yield lambda rows: sys.stdout.writelines(json.dumps(row) + "\n" for row in rows)
        return
    path = Path(name)
    if not path.name:
        raise ConfigError(f"--output needs the name of a file, not {name!r}")
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _open("" if is_json else path.suffix.lower(), partial) as write:
            yield write
        partial.replace(path)
    except OSError as error:
        raise ConfigError(f"{name!r} can't be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _open(suffix: str, path: Path) -> Iterator[Write]:
    if suffix in (".parquet", ".pq"):
        with _parquet(path) as write:
            yield write
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        yield _csv(file) if suffix == ".csv" else lambda rows: file.writelines(json.dumps(row) + "\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())


def _csv(file: IO[str]) -> Write:
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    return writer.writerows


@contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    try:
        import pyarrow as pa
        from pyarrow import compute, parquet
    except ImportError as error:
        raise MissingDependency('Parquet files need pyarrow: pip install "lakery-cloud[parquet]"') from error
    time = pa.timestamp("us", tz="UTC")
    types = {"size": pa.int64(), "modified": time}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
    text = pa.schema([(name, pa.int64() if name == "size" else pa.string()) for name in COLUMNS])
    with parquet.ParquetWriter(path, schema) as writer:

        def write(rows: Sequence[Mapping[str, Any]]) -> None:
            if rows:
                table = pa.Table.from_pylist([dict(row) for row in rows], schema=text)
                parsed = compute.cast(table["modified"], time)
                writer.write_table(table.set_column(COLUMNS.index("modified"), schema.field("modified"), parsed))

        yield write
