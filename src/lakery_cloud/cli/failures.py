"""Exit codes of errors, one-line error messages, and the report of a command in which some targets failed."""

import json
from collections.abc import Sequence
from typing import TypeVar

from lakery_cloud.cli.words import printable
from lakery_cloud.errors import (
    PERMANENT_ERRORS,
    AccessDenied,
    BucketNotFound,
    ConfigError,
    CredentialsError,
    IntegrityError,
    InvalidRecord,
    InvalidTags,
    LakeryCloudError,
    MissingDependency,
    NameConflict,
    NoStorageData,
    NotRegistered,
    ReadOnlyStorage,
    StorageUnavailable,
)
from lakery_cloud.redaction import redact

E = TypeVar("E", bound=Exception)

FAILED, USAGE, NOT_FOUND, DENIED, DAMAGED, UNAVAILABLE, INTERRUPTED, CLOSED, TERMINATED = (
    1,
    2,
    3,
    4,
    5,
    6,
    130,
    141,
    143,
)

EXIT_CODES: tuple[tuple[int, tuple[type[Exception], ...]], ...] = (
    (USAGE, (ConfigError, InvalidTags, InvalidRecord, NotRegistered, NameConflict, ReadOnlyStorage, MissingDependency)),
    (NOT_FOUND, (NoStorageData, BucketNotFound)),
    (DENIED, (AccessDenied, CredentialsError)),
    (DAMAGED, (IntegrityError,)),
    (UNAVAILABLE, (StorageUnavailable,)),
)
"""Exit code -> errors, as docs/command.md lists them. All other errors are `FAILED`."""

MOST_SEVERE_FIRST = (DAMAGED, DENIED, NOT_FOUND, UNAVAILABLE, FAILED, USAGE)
"""Exit codes by severity: after several failures the command returns the first of these."""


def exit_code_of(error: Exception) -> int:
    """Return the exit code of an error."""
    return next((code for code, kinds in EXIT_CODES if isinstance(error, kinds)), FAILED)


def error_text(error: Exception, *, target: str = "") -> str:
    """Format an error as one line: its public class, the target that failed, and the message.

    A message can quote arguments, such as a URL, and a URL can have credentials.
    """
    return f"{public_class(error).__name__}: {redact(f'{printable(target)}: ' if target else '')}{redact(str(error))}"


def print_error(error: Exception, *, target: str = "") -> None:
    """Print an error to standard error as one line."""
    print_in_red(*error_text(error, target=target).split(": ", 1))


def print_in_red(name: str, text: str) -> None:
    """Print a name in red and a text as one line to standard error."""
    from rich.console import Console  # takes long, and most commands print no error
    from rich.text import Text

    Console(stderr=True, soft_wrap=True).print(Text.assemble((f"{name}: ", "red"), text), highlight=False)


def public_class(error: Exception) -> type[Exception]:
    """Return the documented class of an error, which may be an instance of a private subclass."""
    return next(kind for kind in type(error).__mro__ if kind.__module__ in ("lakery_cloud.errors", "builtins"))


def result_of(error: Exception) -> str:
    """Return the `result` of a target that failed, in the lines that `--json` prints."""
    return "missing" if isinstance(error, NoStorageData) else "failed"


def print_json_error(error: Exception) -> None:
    """Print an error that ended the command as a line of JSON, unless its target has one."""
    if not vars(error).get(_HAS_LINE):
        print(json.dumps({"result": result_of(error), "error": error_text(error)}), flush=True)


_HAS_LINE = "_lakery_cloud_has_json_line"


def with_line(error: E) -> E:
    """Return an error whose targets have lines of JSON already."""
    vars(error)[_HAS_LINE] = True
    return error


class Failures:
    """Failed targets of a command, reported at its end.

    Args:
        is_single: Whether the command has only one target, whose error ends the command.
        has_lines: Whether the command prints a line of JSON for each target, also if it fails.
    """

    def __init__(self, *, is_single: bool, has_lines: bool) -> None:
        self._is_single = is_single
        self._has_lines = has_lines
        self._failed: list[tuple[str, Exception]] = []

    def __len__(self) -> int:
        return len(self._failed)

    def add(self, target: str, error: Exception, *, is_of_target: bool = False) -> None:
        """Keep an error for the report; raise it if all other targets would fail with it too.

        Args:
            target: The target that failed.
            error: Its error.
            is_of_target: Whether other targets can succeed, whatever the class of the error.
        """
        if self._is_single or (isinstance(error, PERMANENT_ERRORS) and not is_of_target):
            raise with_line(error) if self._has_lines else error
        self._failed.append((target, error))

    def report(self) -> int:
        """Print all failures, and return the exit code of the most severe one."""
        for target, error in self._failed:
            print_error(error, target=target)
        return exit_code_of(most_severe([error for _, error in self._failed])) if self._failed else 0


def most_severe(errors: Sequence[E]) -> E:
    """Return the error whose exit code is the most severe."""
    return min(errors, key=lambda error: MOST_SEVERE_FIRST.index(exit_code_of(error)))


FAILURES = (LakeryCloudError, OSError)
"""Errors of one target after which the command continues with the others."""
