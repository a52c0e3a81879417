"""Lines that begin with a content hash, on disk in files by its first digits, so that memory is that of one shard."""

import hashlib
import tempfile
import threading
from collections import Counter, defaultdict
from pathlib import Path
from typing import Self

BATCH = 100_000
"""Lines in memory before they are written."""
DIGITS = 2
"""Digits by which lines are split: 256 files."""


class Spool:
    """A temporary folder with lines. Close it to remove the folder.

    Attributes:
        count: Number of lines that were added.
        counts: The same by their first digits.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="lakery-cloud-")
        self._waiting: defaultdict[str, list[str]] = defaultdict(list)
        self._number = 0
        self._writing = threading.Lock()
        self.count = 0
        self.counts: Counter[str] = Counter()

    @property
    def folder(self) -> Path:
        """The folder, which may have other files too, if their names are longer than the digits."""
        return Path(self._folder.name)

    def add(self, line: str) -> None:
        """Add a line that begins with a hash and has no line break."""
        digits = line[:DIGITS]
        self._waiting[digits].append(line)
        self.counts[digits] += 1
        self.count += 1
        self._number += 1
        if self._number >= BATCH:
            with self._writing:
                self._write()

    def lines_of(self, hash_prefix: str) -> list[str]:
        """The lines that begin with these digits, in the order in which they were added. Any thread may ask."""
        with self._writing:
            self._write()
        if len(hash_prefix) >= DIGITS:
            files = [self.folder / hash_prefix[:DIGITS]]
        else:
            files = sorted(self.folder.glob(f"{hash_prefix}{'?' * (DIGITS - len(hash_prefix))}"))
        return [
            line
            for file in files
            if file.exists()
            for line in file.read_text(encoding="utf-8").splitlines()
            if line.startswith(hash_prefix)
        ]

    def fingerprint(self) -> str:
        """A hash of all lines, whatever their order and however often each was added. It reads all files."""
        hasher = hashlib.sha256()
        for digits in sorted(self.counts):
            hasher.update("".join(f"{line}\n" for line in sorted({*self.lines_of(digits)})).encode())
        return hasher.hexdigest()

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()

    def _write(self) -> None:
        for digits, lines in self._waiting.items():
            with (self.folder / digits).open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)
        self._waiting.clear()
        self._number = 0


class Spooled:
    """Something by content hash that is kept in a spool. Use it in a `with` block, which removes its files."""

    def __init__(self) -> None:
        self._spool = Spool()

    @property
    def count(self) -> int:
        """Number of lines that were added."""
        return self._spool.count

    def fingerprint(self) -> str:
        """A hash that tells what was added from anything else. It reads all files."""
        return self._spool.fingerprint()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()
