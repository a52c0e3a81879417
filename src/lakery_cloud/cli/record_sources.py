"""The options that name the content which records need: records files, tables, and a query of a database."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from lakery_cloud.cli.records import hashes_or_records
from lakery_cloud.errors import ConfigError
from lakery_cloud.maintenance.sources import COLUMN, hashes_of_query


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RecordSources:
    """Where records are."""

    records: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            consume_multiple=False,
            show_default=False,
            help="File with a record or JSON line each, or a .csv or .parquet table with a column of hashes or records.",
        ),
    ] = ()
    column: Annotated[str, Parameter(help="Name of that column.")] = COLUMN
    database: Annotated[
        str | None, Parameter(help="URL of a database for --query, as SQLAlchemy has it, such as sqlite:///records.db.")
    ] = None
    query: Annotated[str | None, Parameter(help="SELECT whose first column has hashes or records.")] = None

    def open(self, *, allow_none: bool = False) -> list[Iterator[Any]]:
        """Open all sources.

        Raises:
            ConfigError: There is none, or a part of one is missing.
        """
        if (self.database is None) != (self.query is None):
            raise ConfigError("--database and --query belong together")
        sources: list[Iterator[Any]] = [hashes_or_records(name, self.column) for name in self.records]
        if self.database is not None and self.query is not None:
            sources.append(hashes_of_query(self.database, self.query))
        if not sources and not allow_none:
            raise ConfigError("name the sources of records with --records, or with --database and --query")
        return sources


NO_SOURCES = RecordSources()
