"""The tables of docs/errors.md: what each store's refusals become. The text before them is written by hand."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import lakery_cloud
from lakery_cloud.engine.error_messages import Failure
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.refusals import RefusalRow, RefusalRules
from lakery_cloud.errors import LakeryCloudError
from lakery_cloud.providers.azure.refusals import RULES as AZURE
from lakery_cloud.providers.gcs.refusals import RULES as GCS
from lakery_cloud.providers.s3.refusals import RULES as S3
from tools.tables import code, table

PAGE = Path(__file__).parents[1] / "docs" / "errors.md"
HEADING = "## Refusals of the stores\n"
INTRODUCTION = """
The tables say which error a code of a store becomes, and what the message advises. The store's code counts first, its
status only if the code is not in the tables. If a table names no advice, the message names the permission that the request
needs. `make pages` generates this section from the code.
"""
PROVIDERS = (("S3", S3), ("Google Cloud Storage", GCS), ("Azure Blob Storage", AZURE))
STATUSES = (308, 400, 401, 403, 404, 408, 409, 412, 429, 500, 501, 503, 504, 507)
"""Statuses that are shown for refusals with another code."""


def errors_page() -> str:
    """The page: its text as it is, and the current tables."""
    text, heading, _ = PAGE.read_text("utf-8").partition(HEADING)
    assert heading, f"{PAGE.name} has no heading {HEADING!r}"
    return text + heading + "\n".join(_tables())


def _tables() -> Iterator[str]:
    yield INTRODUCTION
    for title, rules in PROVIDERS:
        yield f"### {title}\n"
        header = ("code", "status", "error", "what to do", "source")
        yield from table(header, _rows(rules))
        if rules.words:
            yield "Some codes fit several causes. There the text of the message decides, by these regular expressions.\n"
            yield from table(("words", *header[1:]), _rows_of_words(rules))
    yield "### Other codes\n"
    yield from table(("status", "error"), ((str(status), _error_of_status(status)) for status in STATUSES))


def _rows(rules: RefusalRules) -> Iterator[tuple[str, ...]]:
    """One line for adjacent codes with the same meaning."""
    for (status, error, advice, source), rows in groupby(rules.table, key=lambda row: row[1:]):
        codes = [row.code for row in rows]
        yield code(*codes) if all(codes) else "none", str(status), _public(error), advice or "-", source


def _rows_of_words(rules: RefusalRules) -> Iterator[tuple[str, ...]]:
    for row in rules.words:
        yield _words(row), str(row.status), _public(row.error), row.advice or "-", row.source


def _words(row: RefusalRow) -> str:
    return code(row.code).replace("|", r"\|")


def _error_of_status(status: int) -> str:
    failure = Failure("put_object", Address("bucket", "key"), "https://store", "a refusal")
    error = S3.error(failure, code="", status=status)
    assert isinstance(error, LakeryCloudError)
    return _public(type(error))


def _public(error: type[LakeryCloudError]) -> str:
    """The class that users catch."""
    return code(next(each.__name__ for each in error.__mro__ if each.__name__ in lakery_cloud.__all__))
