"""`gc` collects content that no record needs."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from typing import Annotated, Any

from cyclopts import Parameter
from rich.filesize import decimal
from rich.progress import Progress

from lakery_cloud.cli.common import Json, Quiet, Records, StorageUrl, open_storage, storage_of
from lakery_cloud.cli.failures import FAILED
from lakery_cloud.cli.jobs import (
    AtATime,
    Dask,
    ManifestPlace,
    Processes,
    manifest_of,
    open_engine,
    plan_for,
    results_of,
)
from lakery_cloud.cli.progress import print_above, print_note
from lakery_cloud.cli.records import hashes_or_records
from lakery_cloud.cli.words import pluralize
from lakery_cloud.errors import ConfigError
from lakery_cloud.maintenance.collect import (
    DEFAULT_GRACE,
    OBJECTS_AT_A_TIME,
    CollectJob,
    Fate,
    restore_quarantined,
    store_time,
)
from lakery_cloud.maintenance.live import live_set
from lakery_cloud.maintenance.sources import COLUMN, hashes_of_query

Flag = Annotated[bool, Parameter(negative="")]
SAMPLE = 10
"""Objects that a dry run prints without --json."""


async def gc(
    *,
    storage: StorageUrl = None,
    records: Records = (),
    column: str = COLUMN,
    database: str | None = None,
    query: str | None = None,
    grace: timedelta = DEFAULT_GRACE,
    yes: Flag = False,
    quarantine: bool = True,
    allow_empty: Flag = False,
    restore: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)] = (),
    restore_all: Flag = False,
    at_a_time: AtATime = OBJECTS_AT_A_TIME,
    processes: Processes = None,
    dask: Dask = None,
    manifest: ManifestPlace = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Find content that no record needs; with --yes move it into quarantine, and delete what was not missed there.

    Name every source of records that the storage has: what none of them names is garbage. Content goes into quarantine
    when it is older than the grace period, and is deleted by a run after another grace period, if no record names it then.
    Reads still find it meanwhile, and log a warning.

    Example: `lakery-cloud gc --records records.jsonl --storage s3://bucket/reports`

    Example: `lakery-cloud gc --records a.parquet --records b.csv --grace 14d --yes --storage s3://bucket/reports`

    Example: `lakery-cloud gc --restore 5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03`

    Args:
        storage: Name or URL of the storage.
        records: File with a record or JSON line each, or a .csv or .parquet table with a column of hashes or records.
        column: Name of that column.
        database: URL of a database for --query, as SQLAlchemy has it, such as sqlite:///records.db.
        query: SELECT whose first column has hashes or records.
        grace: How long the record of new content may take to appear in these sources, at least an hour.
        yes: Do it. Without it, only print what would be done.
        quarantine: Without quarantine, garbage is deleted at once: for buckets that keep versions or deleted objects.
        allow_empty: Allow that the sources name no content, so that everything is garbage.
        restore: Hashes of content to bring back from quarantine.
        restore_all: Bring back everything from quarantine.
        at_a_time: Number of objects that a process works on at a time.
        quiet: Show no progress and no total.
        as_json: Print JSON, one object a line.
    """
    if restore or restore_all:
        return await _restore(storage, restore, quiet=quiet, as_json=as_json)
    if (database is None) != (query is None):
        raise ConfigError("--database and --query belong together")
    if not records and query is None and not allow_empty:
        raise ConfigError("name the sources of records with --records, or with --database and --query")
    counts: Counter[str] = Counter()
    with open_engine(processes, dask) as engine:
        async with open_storage(storage) as target:
            began = await store_time(target)
            sources: list[Iterator[Any]] = [hashes_or_records(name, column) for name in records]
            if database is not None and query is not None:
                sources.append(hashes_of_query(database, query))
            with await live_set(sources, allow_empty=allow_empty) as live:
                job = CollectJob(
                    target if engine is None else partial(storage_of, storage),
                    live=live,
                    began=began,
                    grace=grace,
                    dry_run=not yes,
                    quarantine=quarantine,
                    at_a_time=at_a_time,
                )
                shards = await plan_for(target, is_split=engine is not None or manifest is not None)
                results = results_of(job, shards, engine=engine, manifest=manifest_of(manifest), quiet=quiet)
                async with aclosing(results):
                    async for result, progress in results:
                        for finding in result.findings:
                            counts["printed"] += 1
                            if as_json or yes or finding["result"] == Fate.FAILED or counts["printed"] <= SAMPLE:
                                _print(finding, progress, as_json=as_json)
                        counts.update(result.counts)
    if not quiet and not as_json:
        _report(counts, live.count, dry_run=not yes)
    return FAILED if counts[Fate.FAILED] else 0


async def _restore(storage: str | None, hashes: tuple[str, ...], *, quiet: bool, as_json: bool) -> int:
    count = size = 0
    async with open_storage(storage) as target, aclosing(restore_quarantined(target, hashes or None)) as restored:
        async for content_hash, each in restored:
            count, size = count + 1, size + each
            finding = {"content_hash": content_hash, "size": each, "result": Fate.RESTORED.value}
            print(json.dumps(finding) if as_json else f"{Fate.RESTORED}  {content_hash}  {each:>14}")
    if not quiet and not as_json:
        print_note(f"{pluralize(count, 'object')}, {decimal(size)}: restored")
    return 0


def _print(finding: Mapping[str, Any], progress: Progress, *, as_json: bool) -> None:
    if as_json:
        print_above(progress, json.dumps(finding))
        return
    error = f"  {finding['error']}" if "error" in finding else ""
    print_above(progress, f"{finding['result']}  {finding['content_hash']}  {finding['size']:>14}{error}")


def _report(counts: Counter[str], live: int, *, dry_run: bool) -> None:
    objects = f"{pluralize(counts['objects'], 'object')}, {decimal(counts['bytes'])}"
    lines = [
        (
            f"{objects}: {counts['live']} needed, {counts['young']} younger than the grace period; {counts['waiting']} in "
            f"quarantine; the sources name {live}"
        )
    ]
    for fate in Fate:
        if counts[fate]:
            verb = f"would be {fate}" if dry_run and fate is not Fate.FAILED else fate.value
            lines.append(f"{pluralize(counts[fate], 'object')}, {decimal(counts[f'{fate} bytes'])}: {verb}")
    if dry_run and any(counts[fate] for fate in Fate):
        lines.append("nothing was changed; add --yes to do it")
    for line in lines:
        print_note(line)
