"""Records files: a line of JSON for each content, either a bare record or an object with a record and the name of a file.

`{"file": "docs/a.txt", "record": {...}}` is what `--records` of `put` appends; with more fields it is what `--json` prints.
"""

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Self

from lakery_cloud.errors import ConfigError, InvalidRecord
from lakery_cloud.records import ContentRecord

STANDARD_INPUT = "\0"
"""Stands for a bare `-` once the command line was read: no argument that a shell passes is the same."""


@dataclass(frozen=True, slots=True)
class NamedRecord:
    """A line of a records file.

    Attributes:
        record: The record.
        file: Name of the file that was saved; None where the line has none. It is untrusted input.
    """

    record: ContentRecord
    file: str | None = None

    def to_json(self) -> str:
        """The line that `put --records` appends."""
        return json.dumps({"file": self.file, "record": asdict(self.record)})

    @classmethod
    def from_json(cls, line: str | bytes) -> Self | None:
        """The inverse, also of a bare record; None for a line of `--json` that has no record, since its file failed.

        Raises:
            InvalidRecord: It is none of these.
        """
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidRecord(f"the record is not JSON: {error}") from None
        if not isinstance(values, dict) or "record" not in values:
            return cls(ContentRecord.from_json(line))
        if values["record"] is None:
            return None
        file = values.get("file")
        if not isinstance(file, str | None):
            raise InvalidRecord("the name of a file in a line with a record must be text")
        return cls(ContentRecord.from_json(json.dumps(values["record"])), file)


def read_records(files: tuple[str, ...]) -> list[NamedRecord]:
    """All records of files, in their order; one may be `STANDARD_INPUT`.

    Raises:
        InvalidRecord: A line is no record; the message names it.
        ConfigError: A file is not there.
    """
    found: list[NamedRecord] = []
    for name in files:
        try:
            is_stdin = name == STANDARD_INPUT
            with sys.stdin.buffer if is_stdin else open(name, "rb") as lines:
                parsed = _parsed(lines, "standard input" if is_stdin else name)
                found += (named for named in parsed if named is not None)
        except (FileNotFoundError, IsADirectoryError) as error:
            raise ConfigError(f"there is no records file {name!r}: {error.strerror}") from None
    return found


class RecordsWriter:
    """Appends to a records file, a line at a time, each of which is there in full or not at all.

    A line that the file has already is not appended again, so that a `put` that is run again adds only what is new.
    """

    def __init__(self, file: BinaryIO, known: set[bytes]) -> None:
        self._file = file
        self._known = known

    def add(self, named: NamedRecord) -> None:
        """Append a line, unless the file has it."""
        line = named.to_json().encode() + b"\n"
        if line not in self._known:
            self._known.add(line)
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, "the records file could not be written in full", self._file.name)


@contextmanager
def appended(path: Path) -> Iterator[RecordsWriter]:
    """A records file to append to, made if it is not there; flushed to the disk at the end, whatever ends it.

    A last line that a crash has cut off is removed.

    Raises:
        InvalidRecord: The file holds something else.
        ConfigError: It can't be made there.
    """
    try:
        # Unbuffered: each line is one write, which an append does as a whole.
        file = open(path, "a+b", buffering=0)  # noqa: SIM115, closed below
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ConfigError(f"the records file {str(path)!r} can't be written: {error.strerror}") from None
    with file:
        known = _mended(file, path)
        try:
            yield RecordsWriter(file, known)
        finally:
            os.fsync(file.fileno())


def _mended(file: BinaryIO, path: Path) -> set[bytes]:
    """The lines of a records file, whose last one is made whole or removed."""
    file.seek(0)
    lines = file.read().splitlines(keepends=True)
    torn = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
    for _ in _parsed(lines, str(path)):
        pass  # only looking
    try:
        if torn:
            NamedRecord.from_json(torn)
            file.write(b"\n")
            lines.append(torn + b"\n")
    except InvalidRecord:
        if not torn.startswith(b"{"):
            raise
        file.truncate(sum(map(len, lines)))
    return set(lines)


def _parsed(lines: list[bytes] | BinaryIO, name: str) -> Iterator[NamedRecord | None]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield NamedRecord.from_json(line)
            except InvalidRecord as error:
                raise InvalidRecord(f"line {number} of {name}: {error}") from None
