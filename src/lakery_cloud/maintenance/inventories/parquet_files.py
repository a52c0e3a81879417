"""Rows of Parquet files, read in batches."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lakery_cloud.errors import IntegrityError, MissingDependency
from lakery_cloud.maintenance.inventories.report import Report, find_columns, reason, rows_of

ROWS_AT_A_TIME = 10_000


def read_rows(path: Path, report: Report, *, where: str) -> Iterator[Sequence[Any]]:
    """Read the columns of `find_columns`, None for those that are missing.

    Raises:
        ConfigError: A column that is needed is missing.
        IntegrityError: The file is damaged.
        MissingDependency: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingDependency('inventories in Parquet need pyarrow: pip install "lakery-cloud[parquet]"') from error
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            positions = find_columns(names, report.columns, where=where)
            wanted = [names[position] for position in positions if position is not None]
            for batch in file.iter_batches(batch_size=ROWS_AT_A_TIME, columns=wanted):
                yield from rows_of(batch, names, positions)
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"{where} can't be read: {reason(error)}") from error
