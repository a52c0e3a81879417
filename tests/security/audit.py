"""What this process does while a block runs: to which addresses it connects, and which files it opens, makes or deletes."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Deeds:
    """Addresses, as `socket.connect` got them, and paths of files."""

    addresses: set[tuple[str, int]] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)


_watching: list[Deeds] = []
_FILES = {"open": 1, "os.link": 2, "os.mkdir": 1, "os.remove": 1, "os.rename": 2, "os.scandir": 1, "os.getxattr": 1}
"""Audit event -> how many of its first arguments are paths (Python's "Audit events table")."""


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    for deeds in _watching:
        if event == "socket.connect" and isinstance(arguments[1], tuple):
            deeds.addresses.add(arguments[1][:2])
        elif event == "socket.getaddrinfo":
            deeds.names.add(str(arguments[0]))
        for path in arguments[: _FILES.get(event, 0)]:
            if isinstance(path, str | os.PathLike):
                deeds.paths.add(os.fspath(path))


sys.addaudithook(_note)  # there is no way to remove one


@contextmanager
def watched() -> Iterator[Deeds]:
    """Note what happens inside of the block."""
    deeds = Deeds()
    _watching.append(deeds)
    try:
        yield deeds
    finally:
        _watching.remove(deeds)
