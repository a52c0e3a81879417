"""Rows of ORC files, read stripe by stripe."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lakery_cloud.errors import IntegrityError, MissingDependency
from lakery_cloud.maintenance.inventories.report import Report, find_columns, reason, rows_of


def read_rows(path: Path, report: Report, *, where: str) -> Iterator[Sequence[Any]]:
    """Read the columns of `find_columns`, None for those that are missing.

    Raises:
        ConfigError: A column that is needed is missing.
        IntegrityError: The file is damaged.
        MissingDependency: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import orc
    except ImportError as error:
        raise MissingDependency('inventories in ORC need pyarrow: pip install "lakery-cloud[parquet]"') from error
    try:
        file = orc.ORCFile(path)
        names = file.schema.names
        positions = find_columns(names, report.columns, where=where)
        wanted = [names[position] for position in positions if position is not None]
        for stripe in range(file.nstripes):
            yield from rows_of(file.read_stripe(stripe, columns=wanted), names, positions)
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"{where} can't be read: {reason(error)}") from error
