"""`get` loads content to standard output, to a file, or to a folder."""

import json
import os
import re
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated

from cyclopts import Parameter

from lakery_cloud.cli.common import DEFAULT_JOBS, Jobs, Json, Quiet, Records, Recursive, StorageUrl
from lakery_cloud.cli.failures import FAILURES, Failures, error_text, result_of
from lakery_cloud.cli.files import write_stdout
from lakery_cloud.cli.progress import Summary, Transfers
from lakery_cloud.cli.selection import EVERYTHING, LimitRate, Selection, rate_limit
from lakery_cloud.cli.targets import Target, call_for_each, open_targets
from lakery_cloud.cli.words import STANDARD_INPUT
from lakery_cloud.errors import ConfigError, InvalidRecord, brief
from lakery_cloud.files import chunks_of, open_below, write_file, write_file_below
from lakery_cloud.records import ContentRecord
from lakery_cloud.streams.hashing import new_hasher, update_hash
from lakery_cloud.streams.tasks import side_by_side

_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
"""Control characters that text does not have. Escape starts the colors of logs."""
LOADED, UNCHANGED = "loaded", "there already"


async def get(
    *targets: str,
    records: Records = (),
    recursive: Recursive = False,
    output: Annotated[str | None, Parameter(name=["--output", "-o"])] = None,
    storage: StorageUrl = None,
    selection: Selection = EVERYTHING,
    limit_rate: LimitRate = None,
    jobs: Jobs = DEFAULT_JOBS,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Load and verify content, and write it to standard output, a file, or a folder.

    In a folder, a file gets its name from the records file, or without one its content hash. Files that already have the
    right content are not loaded again, so you can resume an interrupted get by running it again.

    Example: `lakery-cloud put a.bin | lakery-cloud get - -o b.bin`

    Example: `lakery-cloud get --records photos.jsonl -o photos`

    Args:
        targets: JSON of records, content hashes, or patterns of hashes; `hot/<hash>` is a hash in the storage hot; `-`
            reads a record from standard input.
        records: File with one record a line; `-` is standard input.
        recursive: Select all content that matches a pattern, such as 'ab*'.
        output: File or folder to write to. A file is replaced only after all content was received and verified. `-` is
            standard output, also if it is a terminal and the content is not text.
        storage: Name or URL of the storage.
        jobs: Number of objects to transfer at a time.
        quiet: Show no progress and no summary.
        as_json: Print one line of JSON for each file: its name, result, size and content hash.
    """
    is_one = len(targets) == 1 and not records and not recursive
    if not targets and not records:
        raise ConfigError("no content given to load; name records, content hashes or a records file")
    if output == "":
        raise ConfigError("--output needs the name of a file or folder")
    folder_or_file = None if output in (None, STANDARD_INPUT) else Path(output or "")
    if as_json and folder_or_file is None:
        raise ConfigError("--json needs --output, since standard output receives the content")
    if folder_or_file is not None:
        _check_output(folder_or_file, is_one=is_one)
    is_selected, limit = selection.rule(), rate_limit(limit_rate)
    async with open_targets(targets, storage=storage, records=records, recursive=recursive) as named:
        sized = await _look_up(named, jobs) if selection.needs_sizes else named
        found = [each for each in sized if is_selected(each.file or each.content_hash, _size(each))]
        targets_of = _assign_paths(found, folder_or_file, is_one=is_one)
        total = None if any(target.known_record is None for target in found) else sum(filter(None, map(_size, found)))
        transfers = Transfers(quiet=quiet, files=len(targets_of) if folder_or_file else 1, size=total, limit=limit)
        if folder_or_file is None:
            for target in found:
                await _print(target, transfers, is_checked=output is None)
            return 0
        folder = folder_or_file if folder_or_file.is_dir() or not is_one else None
        return await _write_all(
            targets_of, transfers, folder=folder, is_one=is_one, jobs=jobs, quiet=quiet, as_json=as_json
        )


async def _look_up(targets: list[Target], jobs: int) -> list[Target]:
    """Look up the records of targets, for their sizes. A target without content stays, and fails later."""
    found: list[Target] = []
    async with aclosing(call_for_each(Target.record, targets, limit=jobs)) as results:
        async for target, record in results:
            found.append(target if isinstance(record, Exception) else replace(target, known_record=record))
    return found


async def _print(target: Target, transfers: Transfers, *, is_checked: bool) -> None:
    record = await target.record()
    with transfers.show():
        async with aclosing(_content(target, record, transfers, name=record.content_hash[:12])) as chunks:
            is_terminal = is_checked and sys.stdout is not None and sys.stdout.isatty()
            await write_stdout(_text_only(chunks) if is_terminal else chunks)


async def _text_only(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Pass text on to a terminal, which other bytes would garble.

    Raises:
        ConfigError: The content is not text.
    """
    async for chunk in chunks:
        if _BINARY.search(chunk):
            raise ConfigError("the content is not text; add -o FILE to save it, or -o - to print it all the same")
        yield chunk


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of one file."""

    path: Path
    target: Target
    result: str
    size: int | None
    error: Exception | None = None

    def to_json(self) -> str:
        """Format the line that `--json` prints."""
        error = error_text(self.error) if self.error else None
        line = {"file": str(self.path), "result": self.result, "size": self.size}
        return json.dumps({**line, "content_hash": self.target.content_hash, "error": error})


async def _write_all(
    targets_of: dict[Path, Target],
    transfers: Transfers,
    *,
    folder: Path | None,
    is_one: bool,
    jobs: int,
    quiet: bool,
    as_json: bool,
) -> int:
    """Write several files at a time, and print their results in order."""
    failures, summary = Failures(is_single=is_one, has_lines=as_json), Summary("loaded", skipped=UNCHANGED)

    async def load(item: tuple[Path, Target]) -> Loaded:
        path, target = item
        try:
            loaded = await _load(path, target, transfers, folder=folder)
        except FAILURES as error:
            loaded = Loaded(path, target, result_of(error), None, error)
        transfers.finish(skipped=loaded.size or 0 if loaded.result == UNCHANGED else 0)
        return loaded

    with transfers.show():
        async with aclosing(side_by_side(load, targets_of.items(), limit=jobs)) as results:
            async for loaded in results:
                if as_json:
                    transfers.print(loaded.to_json())
                if loaded.error is not None:
                    failures.add(loaded.target.name, loaded.error)
                else:
                    summary.add(**{"moved" if loaded.result == LOADED else "skipped": loaded.size or 0})
    code = failures.report()
    if not quiet and not is_one:
        summary.print(failed=len(failures))
    return code


async def _load(path: Path, target: Target, transfers: Transfers, *, folder: Path | None) -> Loaded:
    """Write a file below a folder, where no link is followed, or to the path that the user has named."""
    record = await target.record()
    if folder is None:
        file, write = _open_named(path), partial(write_file, path)
    else:
        name = _relative_path(target)
        file, write = open_below(folder, name), partial(write_file_below, folder, name)
    if file is not None and await _has_content(file, record, transfers, name=path.name):
        return Loaded(path, target, UNCHANGED, record.content_size)
    async with aclosing(_content(target, record, transfers, name=path.name)) as chunks:
        await write(chunks)
    return Loaded(path, target, LOADED, record.content_size)


def _content(target: Target, record: ContentRecord, transfers: Transfers, *, name: str) -> AsyncGenerator[bytes]:
    stream = target.registry.load_stream(record)["data_stream"]
    return transfers.follow(stream, description=f"loading {name}", total=record.content_size)


def _open_named(path: Path) -> int | None:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC) if path.is_file() else None


async def _has_content(file: int, record: ContentRecord, transfers: Transfers, *, name: str) -> bool:
    """Return whether an open file already has the content of a record; close it."""
    if os.fstat(file).st_size != record.content_size:
        os.close(file)
        return False
    hasher = new_hasher(record.content_hash_algorithm)
    chunks = transfers.follow(
        chunks_of(file), description=f"comparing {name}", total=record.content_size, is_transfer=False
    )
    async with aclosing(chunks):
        async for chunk in chunks:
            await update_hash(hasher, chunk)
    return hasher.hexdigest() == record.content_hash


def _check_output(output: Path, *, is_one: bool) -> None:
    if not output.parent.is_dir():
        raise ConfigError(f"the output folder {str(output.parent)!r} does not exist; create it")
    if not is_one and output.exists() and not output.is_dir():
        raise ConfigError(f"the output {str(output)!r} is a file; several targets need a folder")


def _assign_paths(targets: list[Target], output: Path | None, *, is_one: bool) -> dict[Path, Target]:
    """Return path -> target. Of several targets with the same path the last one counts, since it was saved last."""
    if output is None or not targets:
        return {}
    if is_one and not output.is_dir():
        return dict.fromkeys([output], targets[0])
    return {_path_below(output, target): target for target in targets}


def _path_below(folder: Path, target: Target) -> Path:
    try:
        return folder / _relative_path(target)
    except InvalidRecord:  # `_load` raises it again, as an error of this file alone
        return Path(target.file or "")


def _relative_path(target: Target) -> PurePosixPath:
    """Return the path below the output folder: the file's name without its root, as tar does, else the hash.

    Raises:
        InvalidRecord: The name leads out of the folder.
    """
    if target.file in (None, "-"):  # put names standard input "-"
        return PurePosixPath(target.content_hash)
    path = PurePosixPath(target.file)
    relative = path.relative_to(path.anchor)
    if not relative.parts or ".." in relative.parts or "\0" in target.file:
        raise InvalidRecord(f"the file name {brief(target.file)} in the records leads out of the output folder")
    try:
        os.fsencode(target.file)
    except UnicodeEncodeError as error:
        raise InvalidRecord(f"no file can have the name {brief(target.file)} in the records") from error
    return relative


def _size(target: Target) -> int | None:
    return target.known_record.content_size if target.known_record else None
