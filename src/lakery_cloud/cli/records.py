"""Records files: one line of JSON for each content, either a bare record or an object with a file name and a record.

`put --records` appends lines such as `{"file": "docs/a.txt", "record": {...}}`; `--json` prints them with more fields.
"""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Self

from lakery_cloud.cli.files import stdin
from lakery_cloud.cli.words import STANDARD_INPUT
from lakery_cloud.errors import ConfigError, InvalidRecord, brief
from lakery_cloud.records import ContentRecord


@dataclass(frozen=True, slots=True)
class NamedRecord:
    """One line of a records file.

    Attributes:
        record: The record.
        file: Name of the saved file, or None if the line has none. It is untrusted input.
    """

    record: ContentRecord
    file: str | None = None

    def to_json(self) -> str:
        """Format the line that `put --records` appends."""
        return json.dumps({"file": self.file, "record": asdict(self.record)})

    @classmethod
    def from_json(cls, line: str | bytes) -> Self | None:
        """Parse such a line or a bare record. Returns None for a failed file in the output of `--json`.

        Raises:
            InvalidRecord: The line is neither.
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
            raise InvalidRecord(f"the field 'file' must be a string or null, not {brief(file)}")
        return cls(ContentRecord.from_json(json.dumps(values["record"])), file)


def read_records(files: tuple[str, ...]) -> list[NamedRecord]:
    """Read all records of files, in their order. A file may be `STANDARD_INPUT`.

    Raises:
        InvalidRecord: A line is not a record; the message has its number.
        ConfigError: A file does not exist.
    """
    return [named for name in files for named in each_record(name)]


def each_record(name: str) -> Iterator[NamedRecord]:
    """Read the records of one file, one at a time; errors are those of `read_records`."""
    try:
        is_stdin = name == STANDARD_INPUT
        with stdin() if is_stdin else open(name, "rb") as lines:
            parsed = _parse_lines(lines, "standard input" if is_stdin else name)
            yield from (named for named in parsed if named is not None)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ConfigError(f"the records file {name!r} can't be read: {error.strerror}") from None


def hashes_or_records(name: str, column: str) -> Iterator[ContentRecord | str]:
    """Read the content that a file names: a column of a `.csv` or `.parquet` table, or the records of any other file.

    Raises:
        InvalidRecord: A row or line has neither a hash nor a record.
        ConfigError: The file or the column does not exist.
        MissingDependency: pyarrow, which reads Parquet files, is not installed.
    """
    from lakery_cloud.maintenance.sources import hashes_of_csv, hashes_of_parquet

    if name.lower().endswith(".csv"):
        return hashes_of_csv(name, column=column)
    if name.lower().endswith((".parquet", ".pq")):
        return hashes_of_parquet(name, column=column)
    return (named.record for named in each_record(name))


class RecordsWriter:
    """Appends lines to a records file, each in one write. Skips lines that the file has, so that `put` can run again."""

    def __init__(self, file: BinaryIO, known: set[bytes]) -> None:
        self._file = file
        self._known = known

    def add(self, named: NamedRecord) -> None:
        """Append a line unless the file has it."""
        line = named.to_json().encode() + b"\n"
        if line not in self._known:
            self._known.add(line)
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, "the records file could not be written in full", self._file.name)


@contextmanager
def open_records_writer(path: Path) -> Iterator[RecordsWriter]:
    """Open or create a records file to append to, and flush it to the disk at the end, after errors too.

    Removes an incomplete last line, which a crash can leave.

    Raises:
        InvalidRecord: The file has other content than records.
        ConfigError: The file can't be opened or created, or is a pipe or device, which has no lines to skip.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ConfigError(f"the records file {str(path)!r} is a pipe or device; leave --records out to print records")
    try:
        # Unbuffered, so that each line is one atomic append.
        file = open(path, "a+b", buffering=0)  # noqa: SIM115, closed below
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ConfigError(f"the records file {str(path)!r} can't be written: {error.strerror}") from None
    with file:
        known = _repair(file, path)
        try:
            yield RecordsWriter(file, known)
        finally:
            os.fsync(file.fileno())


def _repair(file: BinaryIO, path: Path) -> set[bytes]:
    """Complete or remove a last line without a line end, and return all lines of the file."""
    file.seek(0)
    lines = file.read().splitlines(keepends=True)
    torn = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
    for _ in _parse_lines(lines, str(path)):
        pass  # parsed only to find invalid lines
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


def _parse_lines(lines: list[bytes] | BinaryIO, name: str) -> Iterator[NamedRecord | None]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield NamedRecord.from_json(line)
            except InvalidRecord as error:
                raise InvalidRecord(f"line {number} of {name}: {error}") from None
