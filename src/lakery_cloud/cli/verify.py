"""`verify` reads content and finds damaged objects."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from cyclopts import Parameter
from rich.filesize import decimal

from lakery_cloud.cli.common import Json, Quiet, Repeated, StorageUrl, open_storage
from lakery_cloud.cli.failures import with_line
from lakery_cloud.cli.inventories import InventoryName
from lakery_cloud.cli.jobs import HERE, AtATime, Workers
from lakery_cloud.cli.progress import Display, print_above, print_note
from lakery_cloud.cli.words import pluralize
from lakery_cloud.engine.checksums import DIGITS
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import ConfigError, IntegrityError, StorageUnavailable
from lakery_cloud.maintenance import READS_AT_A_TIME, Problem
from lakery_cloud.maintenance.jobs import StorageSource
from lakery_cloud.maintenance.known_checksums import KnownChecksums
from lakery_cloud.maintenance.sources import checksums_of_file
from lakery_cloud.maintenance.verify import VerifyJob


async def verify(
    *,
    storage: StorageUrl = None,
    after: Annotated[str, Parameter(show_default=False)] = "",
    since: timedelta | None = None,
    sample: str = "100%",
    seed: int = 0,
    by_checksum: Annotated[bool, Parameter(negative="")] = False,
    checksums: Repeated = (),
    inventory: InventoryName = None,
    at_a_time: AtATime = READS_AT_A_TIME,
    workers: Workers = HERE,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Read all content of a storage, and list damaged, truncated and misplaced objects. Exits with 5 if there are any.

    Archived objects are listed without being read. Restore them, and verify them then.

    Example: `lakery-cloud verify --storage s3://bucket/reports`

    Example: `lakery-cloud verify --storage s3://bucket/reports --processes 8 --manifest verified`

    Args:
        storage: Name or URL of the storage.
        after: Skip content up to this hash, to resume an earlier run.
        since: Skip content that is older, such as 30d.
        sample: Share of the objects to read, such as 1%.
        seed: A number that selects the sample. The same number selects the same objects.
        by_checksum: Read nothing: compare each hash with the checksum that the store has, or an inventory or a report of S3
            Batch Operations that --inventory names. This proves less than a read.
        checksums: With --by-checksum, a file with checksums that you have kept, for objects whose hash the store can't
            compare: a .csv or .parquet table or JSON lines with content_hash, and crc32c, crc64nvme, md5, sha1 or sha256.
        at_a_time: Number of objects that a process reads at a time.
        quiet: Show no progress and no total.
        as_json: Print JSON, one object a line, also for intact content.
    """
    if not re.fullmatch("[0-9a-f]*", after):  # no content would be after it, and all intact
        raise ConfigError(f"--after {after!r}: a content hash is lower-case hexadecimal")
    counts: Counter[str] = Counter()
    share = _share(sample)
    with _known(checksums, by_checksum=by_checksum) as known, workers.open_engine() as engine:
        async with open_storage(storage) as source:
            earliest = await _time_before(source, since)

            def make_job(target: StorageSource, shards: int) -> VerifyJob:
                return VerifyJob(
                    target,
                    after=after,
                    at_a_time=max(1, at_a_time // shards),
                    since=earliest,
                    sample=share,
                    seed=seed,
                    by_checksum=by_checksum,
                    known=known,
                    reports_all=as_json,
                )

            if since is not None and earliest is not None:
                earliest = await workers.continued("since", earliest, make_job(source, 1), longest=since)
            async with aclosing(
                workers.results(storage, source, engine, make_job, quiet=quiet, inventory=inventory)
            ) as results:
                async for result, progress in results:
                    counts.update(result.counts)
                    for finding in result.findings:
                        _print(finding, progress, as_json=as_json)
    try:
        _report(counts, source, by_checksum=by_checksum, quiet=quiet or as_json)
    except (IntegrityError, StorageUnavailable) as error:
        raise with_line(error) if as_json else error from None


@contextmanager
def _known(files: Sequence[str], *, by_checksum: bool) -> Iterator[KnownChecksums | None]:
    """Read the files of checksums, if there are some.

    Raises:
        ConfigError, InvalidRecord, MissingDependency: As for `checksums_of_file`.
    """
    if not files:
        yield None
        return
    if not by_checksum:
        raise ConfigError("--checksums belongs to --by-checksum")
    with KnownChecksums() as known:
        for name in files:
            known.add_all(checksums_of_file(name))
        yield known


async def _time_before(storage: ObjectStorage[Any], age: timedelta | None) -> datetime | None:
    """The time that is so long ago, by the store's clock."""
    if age is None:
        return None
    transport = await storage.transport()
    return (await transport.server_time(storage.keys.bucket) or datetime.now(UTC)) - age


def _share(text: str) -> float:
    """The share in a text such as `1%` or `0.01`.

    Raises:
        ConfigError: It is none.
    """
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1
    if not 0 < share <= 1:
        raise ConfigError(f"a sample is a share of the objects, such as 1% or 0.01, not {text!r}")
    return share


def _print(finding: Mapping[str, Any], progress: Display, *, as_json: bool) -> None:
    if as_json:
        line = {name: finding[name] for name in ("content_hash", "size", "compared") if name in finding}
        print_above(progress, json.dumps({**line, "result": finding["problem"] or "intact", "error": None}))
    else:
        print_above(progress, f"{finding['problem']}  {finding['content_hash']}  {finding['size']:>14}")


def _report(counts: Counter[str], source: ObjectStorage[Any], *, by_checksum: bool, quiet: bool) -> None:
    objects, archived = pluralize(counts["objects"], "object"), counts[Problem.ARCHIVED]
    not_comparable = counts[Problem.NOT_COMPARABLE]
    if wrong := sum(counts[problem] for problem in Problem) - archived - not_comparable:
        first = "verify them without --by-checksum first, then " if by_checksum else ""
        raise IntegrityError(
            f"{wrong} of {objects} in {source!r} failed verification; {first}delete the damaged ones, and save their "
            "content again from another copy"
        )
    if archived:
        raise StorageUnavailable(
            f"{archived} of {objects} in {source!r} could not be read, since archived content must be restored first; "
            "restore them, and verify them then"
        )
    if not_comparable:
        raise StorageUnavailable(
            f"{not_comparable} of {objects} in {source!r} were not comparable: the store has no checksum that can be "
            "compared with their hash or a checksum of --checksums; verify them without --by-checksum"
        )
    if not quiet:
        compared = [f"{counts[f'by {algorithm}']} {algorithm}" for algorithm in DIGITS if counts[f"by {algorithm}"]]
        means = f" by their checksums ({', '.join(compared)})" if by_checksum and compared else ""
        print_note(f"{objects}, {decimal(counts['bytes'])}: all intact{means}")
