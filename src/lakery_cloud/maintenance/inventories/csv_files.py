"""Rows of CSV files, plain or compressed by gzip."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote_plus

from lakery_cloud.errors import IntegrityError
from lakery_cloud.maintenance.inventories.report import Report, find_columns, reason

_GZIP = b"\x1f\x8b"


def read_rows(path: Path, report: Report, *, where: str) -> Iterator[Sequence[Any]]:
    """Read the columns of `find_columns`, None for those that are missing.

    Raises:
        ConfigError: A column that is needed is missing.
        IntegrityError: The file is damaged.
    """
    form = report.csv
    number = 0
    try:
        with open(path, "rb") as file, _plain(file) as lines:
            rows = csv.reader(io.TextIOWrapper(lines, encoding="utf-8", newline=""), delimiter=form.delimiter)
            header = form.columns if form.columns is not None else next(rows, [])
            positions = find_columns(header, report.columns, where=where)
            for number, found in enumerate(rows, start=1):
                row = found
                if not row:
                    continue
                if form.is_ragged:
                    row = [*row, *[""] * len(header)][: len(header)]
                elif len(row) != len(header):
                    raise IntegrityError(f"row {number} of {where} has {len(row)} values, not {len(header)}")
                values = [row[position] if position is not None else None for position in positions]
                if form.is_key_encoded and values[0]:
                    values[0] = unquote_plus(values[0], errors="strict")
                yield values
    except (UnicodeDecodeError, csv.Error, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise IntegrityError(f"row {number + 1} of {where} can't be read: {reason(error)}") from error


def _plain(file: BinaryIO) -> BinaryIO | gzip.GzipFile:
    is_compressed = file.read(len(_GZIP)) == _GZIP
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if is_compressed else file
