"""`put` saves files, folders and standard input."""

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lakery_cloud.cli.common import DEFAULT_JOBS, Jobs, Json, Quiet, Recursive, StorageUrl, open_registry
from lakery_cloud.cli.failures import FAILURES, Failures, error_text
from lakery_cloud.cli.files import chunks_of_stdin
from lakery_cloud.cli.progress import Bar, Summary, Transfers
from lakery_cloud.cli.records import NamedRecord, RecordsWriter, open_records_writer
from lakery_cloud.cli.sources import expand
from lakery_cloud.cli.tags import read_tags
from lakery_cloud.cli.words import STANDARD_INPUT
from lakery_cloud.digest import DigestingStream
from lakery_cloud.engine.attributes import check_tags
from lakery_cloud.errors import ConfigError
from lakery_cloud.files import DEFAULT_TYPE, chunks_of, guess_content_type
from lakery_cloud.records import ContentRecord
from lakery_cloud.registry import StorageRegistry
from lakery_cloud.storage import Digest, SerializedDataStream, Storage
from lakery_cloud.streams.tasks import side_by_side


async def put(
    *files: str,
    recursive: Recursive = False,
    storage: StorageUrl = None,
    records: Annotated[Path | None, Parameter(name="--records")] = None,
    content_type: Annotated[str | None, Parameter(name=["--content-type", "-t"])] = None,
    content_encoding: str | None = None,
    tag: Annotated[tuple[str, ...], Parameter(name="--tag", negative="", consume_multiple=False)] = (),
    jobs: Jobs = DEFAULT_JOBS,
    fail_fast: Annotated[bool, Parameter(negative="")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Save files, and print one record (a line of JSON) for each, in their order.

    `get` loads a file by its record. Content that is stored already is not sent again, so you can resume an interrupted
    put by running it again. A file that fails doesn't stop the others; the command lists all failures at the end.

    Example: `lakery-cloud put report.pdf --tag project=apollo --storage s3://bucket/reports`

    Example: `lakery-cloud put -r photos --records photos.jsonl --storage s3://bucket/photos`

    Args:
        files: Files to save, or patterns of files; `-` is standard input.
        recursive: Save all files in folders, too.
        storage: Name or URL of the storage.
        records: Append each file's name and record to this file, instead of printing records.
        content_type: Media type; guessed from the file's name by default.
        content_encoding: Content encoding of the bytes, such as gzip.
        tag: A tag as key=value; repeat it for up to 10 tags.
        jobs: Number of files to save at a time.
        fail_fast: Start no more files after a failure.
        quiet: Show no progress and no summary.
        as_json: Print one line of JSON for each file: its name, result, size and record.
    """
    tags = check_tags(read_tags(tag))
    if records is not None and str(records) == STANDARD_INPUT:
        raise ConfigError("--records needs a file; leave it out to print records to standard output")
    names = expand(files, recursive=recursive, leave_out=records)
    sizes = [_size(name) for name in names]
    transfers = Transfers(quiet=quiet, files=len(names), size=None if None in sizes else sum(filter(None, sizes)))
    failures, summary = Failures(is_single=len(names) == 1 and not recursive), Summary("sent")
    with open_records_writer(records) if records else nullcontext() as writer:
        async with open_registry(storage) as registry:
            target = None if storage is None else registry.default
            saver = _Saver(registry, target, transfers, tags, content_type, content_encoding)

            def remaining() -> Iterator[str]:
                for name in names:
                    if fail_fast and saver.has_failed:
                        return
                    yield name

            with transfers.show():
                async with aclosing(side_by_side(saver.save, remaining(), limit=jobs)) as results:
                    async for saved in results:
                        _print_result(saved, transfers, writer, as_json=as_json)
                        if saved.error is not None:
                            failures.add(saved.file, saved.error)
                        elif saved.is_new:
                            summary.add(moved=saved.size)
                        else:
                            summary.add(skipped=saved.size)
    code = failures.report()
    if not quiet and (len(names) != 1 or recursive):
        summary.print(failed=len(failures))
    return code


@dataclass(frozen=True, slots=True)
class Saved:
    """The result of one file: its record or its error."""

    file: str
    record: ContentRecord | None = None
    is_new: bool = False
    error: Exception | None = None

    @property
    def size(self) -> int:
        """Number of bytes saved."""
        return self.record.content_size if self.record else 0


class _Saver:
    """Saves files with the same options."""

    def __init__(
        self,
        registry: StorageRegistry,
        target: Storage[Any] | None,
        transfers: Transfers,
        tags: dict[str, str],
        content_type: str | None,
        content_encoding: str | None,
    ) -> None:
        self._registry = registry
        self._target = target
        self._transfers = transfers
        self._tags = tags
        self._content_type = content_type
        self._content_encoding = content_encoding
        self.has_failed = False

    async def save(self, file: str) -> Saved:
        """Save a file, and return its result, also if it fails."""
        try:
            saved = await self._save(file)
        except FAILURES as error:
            self.has_failed = True
            saved = Saved(_display_name(file), error=error)
        self._transfers.finish(skipped=0 if saved.is_new else saved.size)
        return saved

    async def _save(self, file: str) -> Saved:
        path, is_stdin, size = Path(file), file == STANDARD_INPUT, _size(file)
        is_read = False

        async def chunks() -> AsyncGenerator[bytes]:
            nonlocal is_read
            is_read = True
            async with aclosing(chunks_of_stdin() if is_stdin else chunks_of(path)) as source:
                async for chunk in source:
                    yield chunk

        def stream_with(bar: Bar, action: str, *, is_transfer: bool) -> SerializedDataStream:
            guessed = DEFAULT_TYPE if is_stdin else guess_content_type(path)
            description = f"{action} {path.name if not is_stdin else _display_name(file)}"
            return SerializedDataStream(
                data_stream=bar.follow(chunks(), description=description, is_transfer=is_transfer),
                content_type=self._content_type or guessed,
                content_encoding=self._content_encoding,
            )

        with self._transfers.bar(total=size) as bar:
            # A file can be read twice: with its hash, one request finds out whether it must be sent at all.
            digest = await digest_of(stream_with(bar, "hashing", is_transfer=False)) if size is not None else None
            is_read = False
            stream = stream_with(bar, "sending", is_transfer=True)
            record = await self._registry.save_stream(stream, tags=self._tags, storage=self._target, digest=digest)
        return Saved(_display_name(file), record, is_new=is_read)


async def digest_of(stream: SerializedDataStream) -> Digest:
    """Read a stream to its end and return its digest."""
    digesting = DigestingStream(stream)
    async for _ in digesting:
        pass
    return digesting.get_digest()


def _print_result(saved: Saved, transfers: Transfers, writer: RecordsWriter | None, *, as_json: bool) -> None:
    """Append the record of a file to the records file, and print its result."""
    if writer is not None and saved.record is not None:
        writer.add(NamedRecord(saved.record, saved.file))
    if as_json:
        result = "failed" if saved.error else "stored" if saved.is_new else "deduplicated"
        line = {
            "file": saved.file,
            "result": result,
            "size": saved.size if saved.record else None,
            "record": asdict(saved.record) if saved.record else None,
            "error": error_text(saved.error) if saved.error else None,
        }
        transfers.print(json.dumps(line))
    elif writer is None and saved.record is not None:
        transfers.print(saved.record.to_json())


def _display_name(file: str) -> str:
    return "-" if file == STANDARD_INPUT else file


def _size(file: str) -> int | None:
    path = Path(file)
    return path.stat().st_size if file != STANDARD_INPUT and path.is_file() else None
