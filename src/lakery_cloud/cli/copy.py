"""`copy` copies content from one storage to another."""

import json
from contextlib import aclosing
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from lakery_cloud.cli.common import (
    DEFAULT_JOBS,
    Jobs,
    Json,
    Quiet,
    Records,
    open_registry,
    open_storage,
)
from lakery_cloud.cli.failures import Failures, error_text
from lakery_cloud.cli.progress import Summary, Transfers
from lakery_cloud.cli.records import read_records
from lakery_cloud.maintenance import Copied, CopyOutcome
from lakery_cloud.maintenance import copy as copy_content


async def copy(
    source: str,
    destination: str,
    /,
    *,
    records: Records = (),
    dry_run: Annotated[bool, Parameter(name=["--dry-run", "-n"], negative="")] = False,
    tags: bool = True,
    jobs: Jobs = DEFAULT_JOBS,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Copy content from one storage to another, also across clouds, and print the new records.

    Copies the content of a records file, or all content of the source. The bytes pass through this machine in parts, and
    are verified before they appear at the destination. Content that the destination already has is skipped, so you can
    resume an interrupted copy by running it again.

    Example: `lakery-cloud copy s3://bucket/reports gs://archive/reports`

    Example: `lakery-cloud copy s3://bucket az://archive --records photos.jsonl --json > archived.jsonl`

    Args:
        source: Name or URL of the storage to copy from.
        destination: Name or URL of the storage to copy to.
        records: File with one record a line. Without it, all content of the source is copied.
        dry_run: Print what would be copied, without copying it.
        tags: Copy tags too, which needs the permission to read them.
        jobs: Number of objects to transfer at a time.
        quiet: Show no progress and no summary.
        as_json: Print one line of JSON for each object: its file name if known, result, size and new record.
    """
    named = read_records(records) if records else None
    size = None if named is None else sum(each.record.content_size for each in named)
    transfers = Transfers(quiet=quiet, files=len(named) if named is not None else None, size=size, noun="object")
    failures, summary = Failures(is_single=False), Summary("would be copied" if dry_run else "copied", noun="object")
    async with open_registry(source) as registry, open_storage(destination) as target:
        copying = copy_content(
            registry,
            target,
            records=None if named is None else [each.record for each in named],
            at_a_time=jobs,
            dry_run=dry_run,
            keep_tags=tags,
            watch=lambda record, chunks: transfers.follow(
                chunks, description=f"copying {record.content_hash[:12]}", total=record.content_size
            ),
        )
        names = iter(named or ())
        with transfers.show():
            async with aclosing(copying) as results:
                async for copied in results:
                    file = next(names).file if named else None
                    _print(copied, file, transfers, as_json=as_json)
                    size = copied.source.content_size
                    is_skipped = copied.outcome is CopyOutcome.DEDUPLICATED
                    transfers.finish(skipped=size if is_skipped else 0)
                    if copied.error is not None:
                        failures.add(file or copied.source.content_hash, copied.error)
                    else:
                        summary.add(**{"skipped" if is_skipped else "moved": size})
    code = failures.report()
    if not quiet:
        summary.print(failed=len(failures))
    return code


def _print(copied: Copied, file: str | None, transfers: Transfers, *, as_json: bool) -> None:
    if as_json:
        line = {
            "file": file,
            "result": copied.outcome.value,
            "size": copied.source.content_size,
            "record": asdict(copied.record) if copied.record else None,
            "error": error_text(copied.error) if copied.error else None,
        }
        transfers.print(json.dumps(line))
    elif copied.record is not None:
        transfers.print(copied.record.to_json())
    elif copied.outcome is CopyOutcome.PLANNED:
        transfers.print(f"{copied.outcome}  {copied.source.content_hash}  {copied.source.content_size}")
