"""`get` loads content to standard output, to a file, or to a folder."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

from cyclopts import Parameter

from lakery_cloud.cli.common import (
    AT_A_TIME,
    Jobs,
    Json,
    Quiet,
    Records,
    Recursive,
    StorageUrl,
)
from lakery_cloud.cli.failures import FAILURES, Failures, error_text
from lakery_cloud.cli.files import write_stdout
from lakery_cloud.cli.progress import Summary, Transfers
from lakery_cloud.cli.records import STANDARD_INPUT
from lakery_cloud.cli.targets import Target, open_targets
from lakery_cloud.errors import ConfigError, InvalidRecord, brief
from lakery_cloud.files import chunks_of, write_file
from lakery_cloud.records import ContentRecord
from lakery_cloud.streams.hashing import new_hasher, update_hash
from lakery_cloud.streams.tasks import side_by_side

LOADED, THERE, FAILED = "loaded", "there already", "failed"


async def get(
    *targets: str,
    records: Records = (),
    recursive: Recursive = False,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    storage: StorageUrl = None,
    jobs: Jobs = AT_A_TIME,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Load content, verified, to standard output, a file, or a folder.

    In a folder, content has the name of the file that it was saved from where a records file says that, else its hash. A
    file that has the right content already is left as it is: a get that was interrupted is resumed by running it again.

    Example: `lakery-cloud put a.bin | lakery-cloud get - -o b.bin`

    Example: `lakery-cloud get --records photos.jsonl -o photos`

    Args:
        targets: Records' JSON, hashes or patterns of hashes, also after the name or URL of a storage: `hot/<hash>`; or `-`
            for a record on standard input.
        records: File of records, one a line; `-` is standard input.
        recursive: Take all content that matches a pattern, such as 'ab*'.
        output: File to write, or folder; a file is replaced only when all content has arrived and is right.
        storage: URL of the storage.
        jobs: Contents that are under way at a time.
        quiet: Show no progress and no summary.
        as_json: Print a line for each content: its file, what became of it, its size and its hash.
    """
    is_one = len(targets) == 1 and not records and not recursive
    if not targets and not records:
        raise ConfigError("nothing to load was given; name records, content hashes or a records file")
    if output is not None and str(output) == STANDARD_INPUT:
        output = None  # a bare - is standard output here
    if as_json and output is None:
        raise ConfigError("standard output holds the content; give --output with --json")
    if output is not None:
        _check_output(output, is_one=is_one)
    async with open_targets(targets, storage=storage, records=records, recursive=recursive) as found:
        places = _places(found, output, is_one=is_one)
        total = None if any(target.known is None for target in found) else sum(map(_size, found))
        transfers = Transfers(quiet=quiet, files=len(places) if output else 1, size=total)
        if output is None:
            for target in found:
                await _print(target, transfers)
            return 0
        return await _write(places, transfers, is_one=is_one, jobs=jobs, quiet=quiet, as_json=as_json)


async def _print(target: Target, transfers: Transfers) -> None:
    record = await target.record()
    with transfers.show():
        async with aclosing(_content(target, record, transfers, name=record.content_hash[:12])) as chunks:
            await write_stdout(chunks)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of one file."""

    path: Path
    target: Target
    result: str
    size: int | None
    error: Exception | None = None

    def to_json(self) -> str:
        """The line that `--json` prints."""
        error = error_text(self.error) if self.error else None
        line = {"file": str(self.path), "result": self.result, "size": self.size}
        return json.dumps({**line, "content_hash": self.target.content_hash, "error": error})


async def _write(
    places: dict[Path, Target], transfers: Transfers, *, is_one: bool, jobs: int, quiet: bool, as_json: bool
) -> int:
    """Write files, several at a time, and tell what became of them in their order."""
    failures, summary = Failures(alone=is_one), Summary("loaded", skipped=THERE)

    async def load(place: tuple[Path, Target]) -> Loaded:
        path, target = place
        try:
            loaded = await _load(path, target, transfers)
        except FAILURES as error:
            loaded = Loaded(path, target, FAILED, None, error)
        transfers.finish(skipped=loaded.size or 0 if loaded.result == THERE else 0)
        return loaded

    with transfers.show():
        async with aclosing(side_by_side(load, places.items(), limit=jobs)) as results:
            async for loaded in results:
                if as_json:
                    transfers.print(loaded.to_json())
                if loaded.error is not None:
                    failures.note(loaded.target.name, loaded.error)
                else:
                    summary.add(**{"moved" if loaded.result == LOADED else "skipped": loaded.size or 0})
    code = failures.tell()
    if not quiet and not is_one:
        summary.tell(failed=len(failures))
    return code


async def _load(path: Path, target: Target, transfers: Transfers) -> Loaded:
    record = await target.record()
    if await _is_there(path, record, transfers):
        return Loaded(path, target, THERE, record.content_size)
    path.parent.mkdir(parents=True, exist_ok=True)
    async with aclosing(_content(target, record, transfers, name=path.name)) as chunks:
        await write_file(path, chunks)
    return Loaded(path, target, LOADED, record.content_size)


def _content(target: Target, record: ContentRecord, transfers: Transfers, *, name: str) -> AsyncGenerator[bytes]:
    stream = target.registry.load_stream(record)["data_stream"]
    return transfers.follow(stream, description=f"loading {name}", total=record.content_size)


async def _is_there(path: Path, record: ContentRecord, transfers: Transfers) -> bool:
    """Whether a file has the content of a record already."""
    if not path.is_file() or path.stat().st_size != record.content_size:
        return False
    hasher = new_hasher(record.content_hash_algorithm)
    chunks = transfers.follow(
        chunks_of(path), description=f"comparing {path.name}", total=record.content_size, counts=False
    )
    async with aclosing(chunks):
        async for chunk in chunks:
            await update_hash(hasher, chunk)
    return hasher.hexdigest() == record.content_hash


def _check_output(output: Path, *, is_one: bool) -> None:
    if not output.parent.is_dir():
        raise ConfigError(f"the folder {str(output.parent)!r} of the output is not there")
    if not is_one and output.exists() and not output.is_dir():
        raise ConfigError(f"the output {str(output)!r} is a file; name a folder for several contents")


def _places(targets: list[Target], output: Path | None, *, is_one: bool) -> dict[Path, Target]:
    """Which file each content goes to; of several for one file the last counts, as it was saved last."""
    if output is None:
        return {}
    if is_one and not output.is_dir():
        return dict.fromkeys([output], targets[0])
    return {output / _inside(target): target for target in targets}


def _inside(target: Target) -> PurePosixPath:
    """The path within a folder: a file's own name as in tar, without the root, else the hash.

    Raises:
        InvalidRecord: The name leads out of the folder.
    """
    if target.file in (None, "-"):  # saved from standard input
        return PurePosixPath(target.content_hash)
    path = PurePosixPath(target.file)
    inside = path.relative_to(path.anchor)
    if not inside.parts or ".." in inside.parts or "\0" in target.file:
        raise InvalidRecord(f"the name {brief(target.file)} in the records leads out of the output folder")
    return inside


def _size(target: Target) -> int:
    return target.known.content_size if target.known else 0
