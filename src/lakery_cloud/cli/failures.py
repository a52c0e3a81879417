"""Which error is which exit code, how an error is told, and what is left to say when some of many things failed."""

from collections.abc import Sequence
from typing import TypeVar

from rich.console import Console
from rich.markup import escape

from lakery_cloud.cli.progress import printable
from lakery_cloud.errors import (
    HOPELESS,
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

E = TypeVar("E", bound=Exception)

FAILED, USAGE, NOT_FOUND, DENIED, DAMAGED, UNAVAILABLE, INTERRUPTED, TERMINATED = 1, 2, 3, 4, 5, 6, 130, 143

EXIT_CODES: tuple[tuple[int, tuple[type[Exception], ...]], ...] = (
    (USAGE, (ConfigError, InvalidTags, InvalidRecord, NotRegistered, NameConflict, ReadOnlyStorage, MissingDependency)),
    (NOT_FOUND, (NoStorageData, BucketNotFound)),
    (DENIED, (AccessDenied, CredentialsError)),
    (DAMAGED, (IntegrityError,)),
    (UNAVAILABLE, (StorageUnavailable,)),
)
"""Exit code -> errors; what is not here is `FAILED`. docs/command.md tells users."""

GRAVEST_FIRST = (DAMAGED, DENIED, NOT_FOUND, UNAVAILABLE, FAILED, USAGE)
"""Which exit code counts where several things failed."""


def exit_code_of(error: Exception) -> int:
    """The exit code that tells of an error."""
    return next((code for code, kinds in EXIT_CODES if isinstance(error, kinds)), FAILED)


def error_text(error: Exception, *, what: str = "") -> str:
    """An error in one line: its public name, what it befell, and what it says."""
    return f"{public_name(error)}: {f'{printable(what)}: ' if what else ''}{error}"


def say(error: Exception, *, what: str = "") -> None:
    """Print an error to standard error as one line."""
    name, _, text = error_text(error, what=what).partition(": ")
    Console(stderr=True, soft_wrap=True).print(f"[red]{name}:[/red] {escape(text)}", highlight=False)


def public_name(error: Exception) -> str:
    """The name by which the documentation calls an error; some have a private subclass."""
    public = (kind.__name__ for kind in type(error).__mro__ if kind.__module__ in ("lakery_cloud.errors", "builtins"))
    return next(public)


class Failures:
    """What failed while a command worked on several things: kept to the end, and told there.

    Args:
        alone: The command works on one thing only, whose error is the command's own.
    """

    def __init__(self, *, alone: bool) -> None:
        self._alone = alone
        self._noted: list[tuple[str, Exception]] = []

    def __len__(self) -> int:
        return len(self._noted)

    def note(self, what: str, error: Exception) -> None:
        """Keep an error for the end, unless everything else would meet it as well."""
        if self._alone or isinstance(error, HOPELESS):
            raise error
        self._noted.append((what, error))

    def tell(self) -> int:
        """Name all failures, and give the exit code of the gravest."""
        for what, error in self._noted:
            say(error, what=what)
        return exit_code_of(gravest([error for _, error in self._noted])) if self._noted else 0


def gravest(errors: Sequence[E]) -> E:
    """The error whose exit code counts out of several."""
    return min(errors, key=lambda error: GRAVEST_FIRST.index(exit_code_of(error)))


FAILURES = (LakeryCloudError, OSError)
"""What can befall one thing while others go on."""
