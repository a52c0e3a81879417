"""The files that `put` saves: expansion of names, patterns and folders."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from lakery_cloud.cli.words import STANDARD_INPUT
from lakery_cloud.errors import ConfigError


def expand(words: tuple[str, ...], *, recursive: bool, leave_out: Path | None = None) -> list[str]:
    """List the files that the arguments mean, in the order of the arguments, the files of a folder sorted.

    Args:
        words: Files, folders, patterns that the shell did not expand, or `-` for standard input.
        recursive: Whether folders are allowed.
        leave_out: A file to skip inside of folders and patterns.

    Raises:
        ConfigError: A file does not exist, or an argument is a folder and `recursive` is false.
    """
    if not words:
        raise ConfigError("no file given; name at least one, or - for standard input")
    if words.count(STANDARD_INPUT) > 1:
        raise ConfigError("standard input can be read only once")
    names: list[str] = []
    for word in words:
        if word == STANDARD_INPUT or os.path.isfile(word):
            names.append(word)
            continue
        matches = [word] if os.path.exists(word) else sorted(glob.glob(word, recursive=True))
        if not matches:
            raise ConfigError(f"no file matches {word!r}")
        found = [name for match in matches for name in _files(match, recursive=recursive)]
        names += (name for name in found if leave_out is None or not _is_same(name, leave_out))
    return names


def _files(name: str, *, recursive: bool) -> Iterator[str]:
    """List a file itself, or all regular files below a folder. Links to folders are not followed."""
    if not os.path.isdir(name):
        yield name
        return
    if not recursive:
        raise ConfigError(f"{name!r} is a folder; add -r to save its files")

    def refuse(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(name, onerror=refuse):
        folders.sort()
        yield from (path for file in sorted(files) if os.path.isfile(path := os.path.join(folder, file)))


def _is_same(name: str, other: Path) -> bool:
    return os.path.exists(other) and os.path.samefile(name, other)
