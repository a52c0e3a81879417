"""`copy` copies content from one storage to another."""

import json
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

from cyclopts import Parameter

from lakery_cloud.cli.common import (
    DEFAULT_JOBS,
    DryRun,
    Jobs,
    Json,
    Quiet,
    Records,
    check_folder,
    open_registry,
    open_storage,
    storage_of,
)
from lakery_cloud.cli.failures import Failures, error_text
from lakery_cloud.cli.inventories import InventoryName
from lakery_cloud.cli.jobs import HERE, Workers
from lakery_cloud.cli.progress import RateLimit, Summary, Transfers, print_above, print_note
from lakery_cloud.cli.records import NamedRecord, read_records
from lakery_cloud.cli.selection import EVERYTHING, LimitRate, Selection, rate_limit
from lakery_cloud.cli.targets import as_object_storage
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import ConfigError
from lakery_cloud.maintenance.copy import CopyJob, copied_of
from lakery_cloud.maintenance.copy import copy as copy_content
from lakery_cloud.maintenance.jobs import StorageSource
from lakery_cloud.maintenance.shards import ShardResult
from lakery_cloud.maintenance.transfers import Copied, CopyOutcome
from lakery_cloud.records import ContentRecord


async def copy(
    source: str,
    destination: str,
    /,
    *,
    records: Records = (),
    dry_run: DryRun = False,
    tags: bool = True,
    quarantine: Annotated[bool, Parameter(negative="")] = False,
    verify_after: Annotated[bool, Parameter(negative="")] = False,
    new_records: bool = True,
    selection: Selection = EVERYTHING,
    limit_rate: LimitRate = None,
    inventory: InventoryName = None,
    jobs: Jobs = DEFAULT_JOBS,
    workers: Workers = HERE,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Copy content from one storage to another, also across clouds, and print the new records.

    Copies the content of a records file, or all content of the source. The bytes pass through this machine in parts, and
    are verified before they appear at the destination. Content that the destination already has is skipped, so you can
    resume an interrupted copy by running it again. All content of a source at the endpoint of the destination is copied
    inside the store.

    Example: `lakery-cloud copy s3://bucket/reports gs://archive/reports`

    Example: `lakery-cloud copy s3://bucket az://archive --records photos.jsonl --json > archived.jsonl`

    Example: `lakery-cloud copy s3://bucket gs://archive --processes 8 --manifest copied --no-new-records`

    Args:
        source: Name or URL of the storage to copy from.
        destination: Name or URL of the storage to copy to.
        records: File with one record a line. Without it, all content of the source is copied.
        dry_run: Print what would be copied, without copying it.
        tags: Copy tags too, which needs the permission to read them.
        quarantine: Copy content that is in quarantine at the source too.
        verify_after: Read what was copied inside the store, unless the store has told its hash.
        new_records: Print the record of each object at the destination. For an object that is not read, this costs a
            request.
        jobs: Number of objects that a process transfers at a time.
        quiet: Show no progress and no summary.
        as_json: Print one line of JSON for each object: its file name if known, result, size and new record.
    """
    is_job = workers.is_given or inventory is not None
    if records and is_job:
        raise ConfigError(
            "--processes, --dask, --manifest and --inventory are for all content of a storage; leave out --records"
        )
    is_selected, limit = selection.rule(), rate_limit(limit_rate)
    if (limit is not None or selection != EVERYTHING) and (is_job or not new_records):
        raise ConfigError(
            "--include, --exclude, --min-size, --max-size and --limit-rate are for one process that prints new records; "
            "leave out --processes, --dask, --manifest, --inventory and --no-new-records"
        )
    report = _Report(dry_run=dry_run, as_json=as_json)
    if records or (new_records and not is_job):
        named = _selected(read_records(records), is_selected) if records else None
        transfers = _transfers(named, quiet=quiet, limit=limit)
        async with open_registry(source) as registry, open_storage(destination, is_written=True) as target:
            if named is None and await _is_same(as_object_storage(registry.default), target):
                return 0
            copying = copy_content(
                registry,
                target,
                records=None if named is None else [each.record for each in named],
                at_a_time=jobs,
                dry_run=dry_run,
                keep_tags=tags,
                quarantine=quarantine,
                verify_after=verify_after,
                select=is_selected if selection != EVERYTHING else None,
                note=print_note,
                watch=partial(_follow, transfers) if transfers.are_followed else None,
            )
            names = iter(named or ())
            with transfers.show():
                async with aclosing(copying) as results:
                    async for copied in results:
                        report.add(copied, file=next(names).file if named else None, to=transfers.print)
                        is_skipped = copied.outcome is CopyOutcome.DEDUPLICATED
                        transfers.finish(skipped=copied.source.content_size if is_skipped else 0)
    else:
        with workers.open_engine() as engine:
            async with open_storage(source) as origin, open_storage(destination, is_written=True) as target:
                if await _is_same(origin, target):
                    return 0

                def make_job(place: StorageSource, shards: int) -> CopyJob:
                    return CopyJob(
                        place,
                        target if engine is None else partial(storage_of, destination),
                        at_a_time=max(1, jobs // shards),
                        dry_run=dry_run,
                        keep_tags=tags,
                        quarantine=quarantine,
                        verify_after=verify_after,
                        reports_all=new_records,
                    )

                async with aclosing(
                    workers.results(source, origin, engine, make_job, quiet=quiet, inventory=inventory)
                ) as shards:
                    async for result, progress in shards:
                        report.add_shard(result, origin, target, to=partial(print_above, progress))
    return report.end(quiet=quiet)


def _selected(named: Iterable[NamedRecord], is_selected: Callable[[str, int | None], bool]) -> list[NamedRecord]:
    return [each for each in named if is_selected(each.file or each.record.content_hash, each.record.content_size)]


async def _is_same(source: ObjectStorage[Any], destination: ObjectStorage[Any]) -> bool:
    """Whether both are the same storage, so that nothing is to do; say so.

    Raises:
        BucketNotFound: The folder of the source does not exist, or the bucket of both.
    """
    await check_folder(source)
    is_same = source.url_scheme == destination.url_scheme != "memory" and source.settings == destination.settings
    if is_same:
        async with aclosing(source.list()) as found:  # a copy would find out that there is no bucket
            await anext(found, None)
        print_note(f"{source!r} is source and destination: there is nothing to do")
    return is_same


def _transfers(named: Sequence[NamedRecord] | None, *, quiet: bool, limit: RateLimit | None) -> Transfers:
    """The progress of copies of records, or of all content."""
    if named is None:
        return Transfers(quiet=quiet, files=None, noun="object", limit=limit)
    size = sum(each.record.content_size for each in named)
    return Transfers(quiet=quiet, files=len(named), size=size, noun="object", limit=limit)


def _follow(transfers: Transfers, record: ContentRecord, chunks: AsyncIterable[bytes]) -> AsyncIterable[bytes]:
    return transfers.follow(chunks, description=f"copying {record.content_hash[:12]}", total=record.content_size)


class _Report:
    """Prints results, and counts them."""

    def __init__(self, *, dry_run: bool, as_json: bool) -> None:
        self._as_json = as_json
        self._has_note = False
        self._failures = Failures(is_single=False, has_lines=as_json)
        self._summary = Summary("would be copied" if dry_run else "copied", noun="object")

    def add(self, copied: Copied, *, file: str | None, to: Callable[[str], None]) -> None:
        """Print a result, and count it."""
        self._print(copied, file, to)
        size = copied.source.content_size
        if copied.error is not None:
            self._failures.add(file or copied.source.content_hash, copied.error)
        else:
            self._summary.add(**{"skipped" if copied.outcome is CopyOutcome.DEDUPLICATED else "moved": size})

    def add_shard(
        self,
        result: ShardResult,
        source: ObjectStorage[Any],
        destination: ObjectStorage[Any],
        *,
        to: Callable[[str], None],
    ) -> None:
        """Print the results of a job on a shard, and count them."""
        for finding in result.findings:
            if "note" in finding:
                if not self._has_note:
                    print_note(finding["note"])
                self._has_note = True
                continue
            copied = copied_of(source, destination, finding)
            self._print(copied, None, to)
            if copied.error is not None:
                self._failures.add(copied.source.content_hash, copied.error)
        counts = result.counts
        self._summary.add(
            files=counts.get("objects", 0) - counts.get(CopyOutcome.FAILED, 0),
            moved=sum(counts.get(f"{each} bytes", 0) for each in (CopyOutcome.COPIED, CopyOutcome.PLANNED)),
            skipped=counts.get(f"{CopyOutcome.DEDUPLICATED} bytes", 0),
        )

    def end(self, *, quiet: bool) -> int:
        """Print the failures and the counts, and return the exit code."""
        code = self._failures.report()
        if not quiet:
            self._summary.print(failed=len(self._failures))
        return code

    def _print(self, copied: Copied, file: str | None, to: Callable[[str], None]) -> None:
        if self._as_json:
            line = {
                "file": file,
                "result": copied.outcome.value,
                "size": copied.source.content_size,
                "record": asdict(copied.record) if copied.record else None,
                "error": error_text(copied.error) if copied.error else None,
            }
            to(json.dumps(line))
        elif copied.record is not None:
            to(copied.record.to_json())
        elif copied.outcome is CopyOutcome.PLANNED:
            to(f"{copied.outcome}  {copied.source.content_hash}  {copied.source.content_size}")
