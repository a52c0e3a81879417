"""`put` saves files, folders and standard input."""

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lakery_cloud.cli.common import (
    DEFAULT_JOBS,
    DryRun,
    Jobs,
    Json,
    Quiet,
    Recursive,
    Repeated,
    StorageUrl,
    open_registry,
)
from lakery_cloud.cli.failures import FAILURES, Failures, error_text
from lakery_cloud.cli.files import chunks_of_stdin
from lakery_cloud.cli.progress import Bar, Summary, Transfers, print_note
from lakery_cloud.cli.records import NamedRecord, RecordsWriter, open_records_writer
from lakery_cloud.cli.selection import EVERYTHING, LimitRate, Selection, rate_limit
from lakery_cloud.cli.sources import Source, expand
from lakery_cloud.cli.tags import read_tags
from lakery_cloud.cli.targets import as_object_storage
from lakery_cloud.cli.words import STANDARD_INPUT, printable
from lakery_cloud.digest import DigestingStream, check_content_type
from lakery_cloud.engine.attributes import check_tags
from lakery_cloud.errors import ConfigError
from lakery_cloud.files import DEFAULT_TYPE, chunks_of, guess_content_type, run_detached
from lakery_cloud.records import ContentRecord
from lakery_cloud.registry import StorageRegistry
from lakery_cloud.routes import Content
from lakery_cloud.storage import Digest, SerializedDataStream, Storage
from lakery_cloud.streams.tasks import side_by_side


async def put(
    *files: str,
    recursive: Recursive = False,
    storage: StorageUrl = None,
    records: Annotated[Path | None, Parameter(name="--records")] = None,
    content_type: Annotated[str | None, Parameter(name=["--content-type", "-t"])] = None,
    content_encoding: str | None = None,
    tag: Annotated[Repeated, Parameter(name="--tag")] = (),
    selection: Selection = EVERYTHING,
    dry_run: DryRun = False,
    limit_rate: LimitRate = None,
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
        dry_run: Print what would be saved, without saving it. Files are read and looked up.
        jobs: Number of files to save at a time.
        fail_fast: Start no more files after a failure.
        quiet: Show no progress and no summary.
        as_json: Print one line of JSON for each file: its name, result, size and record.
    """
    tags = check_tags(read_tags(tag))
    check_content_type(DEFAULT_TYPE if content_type is None else content_type, content_encoding)
    if records is not None and str(records) == STANDARD_INPUT:
        raise ConfigError("--records needs a file; leave it out to print records to standard output")
    is_selected, limit = selection.rule(), rate_limit(limit_rate)

    def find_sources() -> list[Source]:
        def skip(name: str) -> None:
            if not quiet and is_selected(name, None):
                print_note(f"skipped {printable(name)}: a pipe, socket or device")

        found = expand(files, recursive=recursive, leave_out=records, skip=skip)
        return [each for each in found if each.is_selected(is_selected)]

    sources = await run_detached(find_sources)
    sizes = [source.size for source in sources]
    total = None if None in sizes else sum(filter(None, sizes))
    transfers = Transfers(quiet=quiet, files=len(sources), size=total, limit=limit)
    failures = Failures(is_single=len(files) == len(sources) == 1 and not recursive, has_lines=as_json)
    summary = Summary("would be sent" if dry_run else "sent")
    with open_records_writer(records) if records and not dry_run else nullcontext() as writer:
        async with open_registry(storage) as registry:
            target = None if storage is None else registry.default
            saver = _Saver(registry, target, transfers, tags, content_type, content_encoding, is_dry=dry_run)

            def remaining() -> Iterator[Source]:
                for source in sources:
                    if fail_fast and saver.has_failed:
                        return
                    yield source

            with transfers.show():
                async with aclosing(side_by_side(saver.save, remaining(), limit=jobs)) as results:
                    async for saved in results:
                        _print_result(saved, transfers, writer, as_json=as_json, is_dry=dry_run)
                        if saved.error is not None:
                            failures.add(saved.file, saved.error, is_of_target=saved.is_unreadable)
                        elif saved.is_new:
                            summary.add(moved=saved.size)
                        else:
                            summary.add(skipped=saved.size)
    code = failures.report()
    if not quiet and (len(sources) != 1 or recursive):
        summary.print(failed=len(failures))
    return code


@dataclass(frozen=True, slots=True)
class Saved:
    """The result of one file: its record or its error."""

    file: str
    record: ContentRecord | None = None
    is_new: bool = False
    error: Exception | None = None
    is_unreadable: bool = False

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
        *,
        is_dry: bool,
    ) -> None:
        self._registry = registry
        self._target = target
        self._transfers = transfers
        self._tags = tags
        self._content_type = content_type
        self._content_encoding = content_encoding
        self._is_dry = is_dry
        self.has_failed = False

    async def save(self, source: Source) -> Saved:
        """Save a file, and return its result, also if it fails."""
        try:
            saved = await self._save(source) if source.error is None else None
        except FAILURES as error:
            saved = Saved(source.display_name, error=error)
        saved = saved or Saved(source.display_name, error=source.error, is_unreadable=True)
        self.has_failed |= saved.error is not None
        self._transfers.finish(skipped=0 if saved.is_new else saved.size)
        return saved

    async def _save(self, source: Source) -> Saved:
        path = Path(source.name)
        is_read = False

        async def chunks() -> AsyncGenerator[bytes]:
            nonlocal is_read
            is_read = True
            async with aclosing(chunks_of_stdin() if source.is_stdin else chunks_of(path)) as pieces:
                async for piece in pieces:
                    yield piece

        def stream_with(bar: Bar, action: str, *, is_transfer: bool) -> SerializedDataStream:
            guessed = DEFAULT_TYPE if source.is_stdin else guess_content_type(path)
            return SerializedDataStream(
                data_stream=bar.follow(
                    chunks(),
                    description=f"{action} {'-' if source.is_stdin else path.name}",
                    is_transfer=is_transfer,
                ),
                content_type=self._content_type or guessed,
                content_encoding=self._content_encoding,
            )

        with self._transfers.bar(total=source.size) as bar:
            # A file can be read twice: with its hash, one request finds out whether it must be sent at all.
            is_known = source.size is not None or self._is_dry
            digest = await digest_of(stream_with(bar, "hashing", is_transfer=False)) if is_known else None
            if self._is_dry and digest is not None:
                return await self._look_up(source, digest)
            is_read = False
            stream = stream_with(bar, "sending", is_transfer=True)
            record = await self._registry.save_stream(stream, tags=self._tags, storage=self._target, digest=digest)
        return Saved(source.display_name, record, is_new=is_read)

    async def _look_up(self, source: Source, digest: Digest) -> Saved:
        """The result that a file would have."""
        content = Content(
            content_type=digest["content_type"],
            content_encoding=digest["content_encoding"],
            tags=self._tags,
            size=digest["content_size"],
        )
        storage = self._registry.get(self._registry.explain(content, storage=self._target).storage_name)
        is_stored = await storage.find(digest) is not None
        return Saved(
            source.display_name,
            ContentRecord.of(storage, digest, as_object_storage(storage).storage_data_of(digest)),
            is_new=not is_stored,
        )


async def digest_of(stream: SerializedDataStream) -> Digest:
    """Read a stream to its end and return its digest."""
    digesting = DigestingStream(stream)
    async for _ in digesting:
        pass
    return digesting.get_digest()


def _print_result(
    saved: Saved, transfers: Transfers, writer: RecordsWriter | None, *, as_json: bool, is_dry: bool
) -> None:
    """Append the record of a file to the records file, and print its result."""
    if writer is not None and saved.record is not None:
        writer.add(NamedRecord(saved.record, saved.file))
    stored = "would be stored" if is_dry else "stored"
    result = "failed" if saved.record is None else stored if saved.is_new else "deduplicated"
    if as_json:
        line = {
            "file": saved.file,
            "result": result,
            "size": saved.size if saved.record else None,
            "record": asdict(saved.record) if saved.record and not is_dry else None,
            "error": error_text(saved.error) if saved.error else None,
        }
        transfers.print(json.dumps(line))
    elif saved.record is not None and is_dry:
        transfers.print(f"{result}  {saved.record.content_hash}  {saved.size}  {printable(saved.file)}")
    elif writer is None and saved.record is not None:
        transfers.print(saved.record.to_json())
