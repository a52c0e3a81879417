"""`gc` collects content that no record needs."""

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

from cyclopts import Parameter
from rich.filesize import decimal

from lakery_cloud.cli.common import Json, Quiet, StorageUrl, open_storage
from lakery_cloud.cli.failures import FAILED
from lakery_cloud.cli.inventories import InventoryName
from lakery_cloud.cli.jobs import HERE, AtATime, Workers
from lakery_cloud.cli.progress import Display, print_above, print_note
from lakery_cloud.cli.record_sources import NO_SOURCES, RecordSources
from lakery_cloud.cli.words import pluralize
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import ConfigError, brief
from lakery_cloud.maintenance.collect import (
    DEFAULT_GRACE,
    OBJECTS_AT_A_TIME,
    CollectJob,
    Fate,
    restore_quarantined,
    store_time,
)
from lakery_cloud.maintenance.costs import PRICES, Prices, price_of, requests_of_collection
from lakery_cloud.maintenance.jobs import StorageSource
from lakery_cloud.maintenance.live import live_set

Flag = Annotated[bool, Parameter(negative="")]
PRICED = ("list", "read", "write", "delete")
SAMPLE = 10
"""Objects that a dry run prints without --json."""


async def gc(
    *,
    storage: StorageUrl = None,
    sources: RecordSources = NO_SOURCES,
    grace: timedelta = DEFAULT_GRACE,
    yes: Flag = False,
    quarantine: bool = True,
    prices: Annotated[str | None, Parameter(show_default=False)] = None,
    allow_empty: Flag = False,
    restore: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True, show_default=False)] = (),
    restore_all: Flag = False,
    inventory: InventoryName = None,
    at_a_time: AtATime = OBJECTS_AT_A_TIME,
    workers: Workers = HERE,
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
        grace: How long the record of new content may take to appear in these sources, at least an hour.
        yes: Do it. Without it, only print what would be done.
        prices: Prices of a thousand requests in US dollars, such as list=0.005,read=0.0004,write=0.005, for what a dry run
            says. By default examples of Amazon, Google and Microsoft.
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
    opened = sources.open(allow_none=allow_empty)
    counts: Counter[str] = Counter()
    oldest: dict[str, str] = {}
    with workers.open_engine() as engine:
        async with open_storage(storage) as target:
            rates = _prices_of(prices, target)
            began = await store_time(target)
            with await live_set(opened, allow_empty=allow_empty) as live:

                def make_job(source: StorageSource, shards: int) -> CollectJob:
                    return CollectJob(
                        source,
                        live=live,
                        began=began,
                        grace=grace,
                        dry_run=not yes,
                        quarantine=quarantine,
                        at_a_time=max(1, at_a_time // shards),
                    )

                # An older time only makes the run more careful, and its records are read later.
                began = await workers.continued("began", began, make_job(target, 1))
                async with aclosing(
                    workers.results(storage, target, engine, make_job, quiet=quiet, inventory=inventory)
                ) as results:
                    async for result, progress in results:
                        for finding in result.findings:
                            counts["printed"] += 1
                            _note_oldest(oldest, finding)
                            if as_json or yes or finding["result"] == Fate.FAILED or counts["printed"] <= SAMPLE:
                                _print(finding, progress, as_json=as_json)
                        counts.update(result.counts)
    if not quiet and not as_json:
        _report(counts, live.count, oldest, dry_run=not yes)
        if not yes and rates is not None and any(counts[fate] for fate in Fate):
            requests = requests_of_collection(
                counts, page=rates.page, quarantine=quarantine, has_inventory=inventory is not None
            )
            print_note(_cost(requests, rates))
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


def _print(finding: Mapping[str, Any], progress: Display, *, as_json: bool) -> None:
    if as_json:
        print_above(progress, json.dumps({name: value for name, value in finding.items() if name != "modified"}))
        return
    error = f"  {finding['error']}" if "error" in finding else ""
    print_above(progress, f"{finding['result']}  {finding['content_hash']}  {finding['size']:>14}{error}")


def _note_oldest(oldest: dict[str, str], finding: Mapping[str, Any]) -> None:
    fate, modified = finding["result"].removeprefix("would be "), finding.get("modified")
    if modified is not None:
        oldest[fate] = min(modified, oldest.get(fate, modified))


def _prices_of(text: str | None, storage: ObjectStorage[Any]) -> Prices | None:
    """The prices of a store: those of the option, and examples for the others; None if it has none.

    Raises:
        ConfigError: The text has no prices.
    """
    known = PRICES.get(storage.url_scheme)
    if text is None:
        return known
    given: dict[str, Any] = {}
    for part in text.split(","):
        name, _, price = part.partition("=")
        try:
            given[name.strip()] = float(price)
        except ValueError:
            name = ""
        if name.strip() not in PRICED:
            raise ConfigError(f"prices are such as list=0.005,read=0.0004,write=0.005, not {brief(text)}")
    return replace(known or Prices(list=0, read=0, write=0), **given)


def _cost(requests: Mapping[str, int], prices: Prices) -> str:
    names = {"list": "page", "read": "look", "write": "write", "delete": "deletion"}
    numbers = [pluralize(requests[kind], name) for kind, name in names.items()]
    rates = ", ".join(f"{kind} {getattr(prices, kind):g}" for kind in PRICED)
    return f"--yes sends about {', '.join(numbers)}: {price_of(requests, prices):.2f} USD at {rates} USD for a thousand"


def _report(counts: Counter[str], live: int, oldest: Mapping[str, str], *, dry_run: bool) -> None:
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
            since = f", the oldest of {oldest[fate][:10]}" if fate in oldest else ""
            lines.append(f"{pluralize(counts[fate], 'object')}, {decimal(counts[f'{fate} bytes'])}: {verb}{since}")
    if dry_run and any(counts[fate] for fate in Fate):
        lines.append("nothing was changed; add --yes to do it")
    for line in lines:
        print_note(line)
