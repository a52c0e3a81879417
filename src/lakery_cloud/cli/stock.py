"""`inventory`, `orphans` and `dangling` say what a storage holds, and where that differs from its records."""

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import aclosing
from typing import Annotated, Any

from cyclopts import Parameter
from rich.filesize import decimal

from lakery_cloud.cli.common import Json, Quiet, StorageUrl, open_storage
from lakery_cloud.cli.failures import NOT_FOUND
from lakery_cloud.cli.inventories import InventoryName
from lakery_cloud.cli.jobs import HERE, Workers
from lakery_cloud.cli.progress import Display, print_above, print_note
from lakery_cloud.cli.record_sources import NO_SOURCES, RecordSources
from lakery_cloud.cli.tables import open_table
from lakery_cloud.cli.words import STANDARD_INPUT, pluralize
from lakery_cloud.maintenance.jobs import StorageSource
from lakery_cloud.maintenance.live import live_set
from lakery_cloud.maintenance.stock import CompareJob, Difference, InventoryJob


async def inventory(
    *,
    storage: StorageUrl = None,
    output: Annotated[str, Parameter(name=["--output", "-o"], show_default=False)] = STANDARD_INPUT,
    inventory: InventoryName = None,
    workers: Workers = HERE,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a list of all content: hash, size, time and version.

    Example: `lakery-cloud inventory -o stock.parquet --storage s3://bucket/reports`

    Args:
        storage: Name or URL of the storage.
        output: File to write: Parquet or CSV by the end of its name, else JSON lines; `-` is standard output.
        quiet: Show no progress and no total.
        as_json: Write JSON lines, whatever the name of the file.
    """
    counts: Counter[str] = Counter()
    with workers.open_engine() as engine, open_table(output, is_json=as_json) as write:
        async with (
            open_storage(storage) as source,
            aclosing(
                workers.results(
                    storage, source, engine, lambda target, _: InventoryJob(target), quiet=quiet, inventory=inventory
                )
            ) as results,
        ):
            async for result, _ in results:
                counts.update(result.counts)
                write(result.findings)
    if not quiet and not as_json:
        print_note(f"{pluralize(counts['objects'], 'object')}, {decimal(counts['bytes'])}")


async def orphans(
    *,
    storage: StorageUrl = None,
    sources: RecordSources = NO_SOURCES,
    inventory: InventoryName = None,
    workers: Workers = HERE,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """List content that is stored and that no record names, whatever its age.

    `gc` removes such content.

    Example: `lakery-cloud orphans --records records.jsonl --storage s3://bucket/reports`

    Args:
        storage: Name or URL of the storage.
        quiet: Show no progress and no total.
        as_json: Print JSON, one object a line.
    """
    counts = await _compare(
        storage, sources, workers, {Difference.ORPHAN}, inventory=inventory, quiet=quiet, as_json=as_json
    )
    if not quiet and not as_json:
        objects = f"{pluralize(counts['objects'], 'object')}, {decimal(counts['bytes'])}"
        print_note(f"{objects}: {counts[Difference.ORPHAN]} in no record")


async def dangling(
    *,
    storage: StorageUrl = None,
    sources: RecordSources = NO_SOURCES,
    inventory: InventoryName = None,
    workers: Workers = HERE,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """List content that records name and that is not stored. Exits with 3 if there is any.

    Content in quarantine is listed as `quarantined`: reads find it, and `gc` restores it.

    Example: `lakery-cloud dangling --records records.jsonl --storage s3://bucket/reports`

    Args:
        storage: Name or URL of the storage.
        quiet: Show no progress and no total.
        as_json: Print JSON, one object a line.
    """
    wanted = {Difference.DANGLING, Difference.QUARANTINED}
    counts = await _compare(storage, sources, workers, wanted, inventory=inventory, quiet=quiet, as_json=as_json)
    if not quiet and not as_json:
        print_note(
            f"the records name {pluralize(counts['needed'], 'object')}: {counts[Difference.DANGLING]} not stored, "
            f"{counts[Difference.QUARANTINED]} in quarantine"
        )
    return NOT_FOUND if counts[Difference.DANGLING] else 0


async def _compare(
    storage: str | None,
    sources: RecordSources,
    workers: Workers,
    differences: set[Difference],
    *,
    inventory: str | None,
    quiet: bool,
    as_json: bool,
) -> Counter[str]:
    """Compare a storage with records, print the differences, and return the counts."""
    counts: Counter[str] = Counter()
    opened = sources.open()
    with workers.open_engine() as engine:
        async with open_storage(storage) as target:
            with await live_set(opened) as live:

                def make_job(source: StorageSource, _: int) -> CompareJob:
                    return CompareJob(source, live=live, differences=frozenset(differences))

                async with aclosing(
                    workers.results(storage, target, engine, make_job, quiet=quiet, inventory=inventory)
                ) as results:
                    async for result, progress in results:
                        counts.update(result.counts)
                        for finding in result.findings:
                            _print(finding, progress, as_json=as_json)
    return counts


def _print(finding: Mapping[str, Any], progress: Display, *, as_json: bool) -> None:
    if as_json:
        print_above(progress, json.dumps(finding))
    else:
        size = "-" if finding["size"] is None else finding["size"]
        print_above(progress, f"{finding['result']}  {finding['content_hash']}  {size:>14}")
