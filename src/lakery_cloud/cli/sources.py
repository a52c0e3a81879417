"""The files that `put` saves: expansion of names, patterns and folders."""

import glob
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lakery_cloud.cli.words import STANDARD_INPUT
from lakery_cloud.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Source:
    """One file to save, or an argument or file that can't be saved.

    Attributes:
        name: Its name, or `STANDARD_INPUT`.
        size: Its size; None for a pipe or device.
        error: The reason why it can't be saved.
        is_folder: Whether it is a folder that can't be read.
    """

    name: str
    size: int | None = None
    error: Exception | None = None
    is_folder: bool = False

    @property
    def is_stdin(self) -> bool:
        """Whether this is standard input."""
        return self.name == STANDARD_INPUT

    @property
    def display_name(self) -> str:
        """Its name in messages and records files."""
        return "-" if self.is_stdin else self.name

    def is_selected(self, rule: Callable[[str, int | None], bool]) -> bool:
        """Whether a rule selects it. A name without a file is always selected, since it is a mistake."""
        if isinstance(self.error, ConfigError):
            return True
        return rule(f"{self.name}/" if self.is_folder else self.display_name, self.size)


def expand(
    words: tuple[str, ...], *, recursive: bool, leave_out: Path | None = None, skip: Callable[[str], None]
) -> list[Source]:
    """List the files that the arguments mean, in the order of the arguments, the files of a folder sorted.

    What can't be saved is in the list with its error, so that the others are saved.

    Args:
        words: Files, folders, patterns that the shell did not expand, or `-` for standard input.
        recursive: Whether folders are allowed.
        leave_out: A file to skip inside of folders and patterns.
        skip: Gets the name of each pipe, socket and device in a folder, which is not in the list.

    Raises:
        ConfigError: There are no arguments, or one is a folder and `recursive` is false.
    """
    if not words:
        raise ConfigError("no file given; name at least one, or - for standard input")
    if words.count(STANDARD_INPUT) > 1:
        raise ConfigError("standard input can be read only once")
    sources: list[Source] = []
    for word in words:
        if word == STANDARD_INPUT:
            sources.append(Source(word))
            continue
        matches = _matches(word)
        found = [each for match in matches for each in _sources(match, recursive=recursive, skip=skip)]
        is_named = matches == [word] and not os.path.isdir(word)
        sources += (each for each in found if is_named or leave_out is None or not _is_same(each.name, leave_out))
        if not matches:
            sources.append(Source(word, error=ConfigError(f"no file matches {word!r}")))
    return sources


def _matches(word: str) -> list[str]:
    """The names that an argument means: itself, or what it matches as a pattern."""
    try:
        os.lstat(word)
    except (FileNotFoundError, NotADirectoryError):
        return sorted(glob.glob(word, recursive=True))
    except OSError:
        pass  # `_sources` meets the error again
    return [word]


def _sources(name: str, *, recursive: bool, skip: Callable[[str], None]) -> Iterator[Source]:
    """List a file itself, or all files below a folder. Links to folders are not followed."""
    source, mode = _look_at(name)
    if not stat.S_ISDIR(mode):
        yield source
        return
    if not recursive:
        raise ConfigError(f"{name!r} is a folder; add -r to save its files")
    unreadable: list[OSError] = []
    for folder, folders, files in os.walk(name, onerror=unreadable.append):
        folders.sort()
        for file in sorted(files):
            source, mode = _look_at(os.path.join(folder, file))
            if mode and not stat.S_ISREG(mode):
                skip(source.name)
            else:
                yield source
    yield from (Source(str(error.filename), error=error, is_folder=True) for error in unreadable)


def _look_at(name: str) -> tuple[Source, int]:
    """A file as a source, and its mode; 0 if it can't be looked at."""
    try:
        status = os.stat(name)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and os.path.islink(name):
            error = FileNotFoundError(error.errno, "the target of the link does not exist", name)
        return Source(name, error=error), 0
    if stat.S_ISSOCK(status.st_mode):
        return Source(name, error=OSError(f"{name!r} is a socket, which has no content to save")), status.st_mode
    return Source(name, status.st_size if stat.S_ISREG(status.st_mode) else None), status.st_mode


def _is_same(name: str, other: Path) -> bool:
    return os.path.exists(other) and os.path.exists(name) and os.path.samefile(name, other)
