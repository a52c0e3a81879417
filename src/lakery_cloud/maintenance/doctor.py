"""`diagnose` tries on temporary keys all that a storage needs of its store, says what is wrong, and leaves nothing.

It knows no cloud: what only one of them can tell comes through `Transport`.
"""

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from lakery_cloud.engine.cloud_storage import CloudStorage
from lakery_cloud.engine.error_messages import redact_error
from lakery_cloud.engine.model import Unreachable
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.engine.transport import Transport
from lakery_cloud.errors import (
    AccessDenied,
    BucketNotFound,
    ConfigError,
    CredentialsError,
    IntegrityError,
    LakeryCloudError,
    StorageUnavailable,
)
from lakery_cloud.maintenance.bench import Bench, Skip
from lakery_cloud.maintenance.trials import TRIALS, Outcome, Result
from lakery_cloud.streams.tasks import finish

logger = logging.getLogger("lakery_cloud")

WIDEST_SKEW = timedelta(minutes=5)
"""A third of what S3 and Azure take (S3 API Reference, "RequestTimeTooSkewed"; Microsoft Learn, "Authorize with Shared
Key"): a clock that is so wrong will get there."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found.

    Attributes:
        check: Which check; `CHECKS` has all of them.
        outcome: How it went.
        seen: What was seen.
        advice: What to grant or to do, where there is anything.
        measured: Numbers, by a name that tells their unit.
        error: The error of a check that failed.
    """

    check: str
    outcome: Outcome
    seen: str
    advice: str | None = None
    measured: Mapping[str, float] = field(default_factory=dict)
    error: LakeryCloudError | None = None


CHECKS = ("settings", "reach", "clock", "credentials", "bucket", "list", *TRIALS)
"""Every check, in the order of its findings. Those before `list` tell what stands in the way of all others."""


async def diagnose(storage: ObjectStorage[Any]) -> AsyncGenerator[Finding]:
    """Try all that a storage needs: reach, clock, credentials, each right, and what the store promises.

    A right that is missing doesn't stop the other checks. Where the store can't be reached, refuses the credentials or
    has no such bucket, that is the last finding.

    Objects are made at temporary keys alone, and deleted at the end, also if you close the generator or are cancelled;
    the last finding proves it. About 20 MB travel where parts have at least 5 MiB.

    Args:
        storage: Which one. It stays open.

    Yields:
        Findings, as they are made. Nothing is raised for what they tell.
    """
    opened: list[Transport] = []

    async def open_client() -> Result:
        opened.append(await storage.transport())
        return Result("a client could be opened")

    finding = _placed(await _examine("settings", open_client))
    if finding.error is not None:
        yield finding
        return
    transport = opened[0]
    async with aclosing(_first_contact(storage, transport)) as findings:
        async for finding in findings:
            yield finding
            if finding.error is not None and finding.check != "list":
                return
    bench = Bench(storage, transport)
    try:
        for check, trial in TRIALS.items():
            finding = await _examine(check, partial(trial, bench))
            yield finding
            if isinstance(finding.error, Unreachable):
                return
    finally:
        if not bench.is_over:
            await _clean_up(bench)


async def _clean_up(bench: Bench) -> None:
    """Clean up after a diagnosis that was ended early, whose caller takes no more findings."""
    try:
        await finish(bench.clean_up(), seconds=bench.cleanup_timeout)
    except Exception:
        logger.warning(
            "could not delete the temporary objects of a diagnosis below %r in bucket %r; `lakery-cloud sweep` can",
            bench.keys.temporary_root,
            bench.keys.bucket,
            exc_info=True,
        )


async def _first_contact(storage: ObjectStorage[Any], transport: Transport) -> AsyncGenerator[Finding]:
    """Whether anybody is there who knows us."""
    bucket = storage.keys.bucket
    if isinstance(storage, CloudStorage):
        begin, begun_at = time.perf_counter(), datetime.now(UTC)
        times: list[datetime | None] = []

        async def reach() -> Result:
            times.append(await transport.server_time(bucket))
            return Result(f"the store answered in {(time.perf_counter() - begin) * 1000:.0f} ms")

        yield (finding := _placed(await _examine("reach", reach)))
        if finding.error is not None:
            return
        yield _clock(times[0], begun_at, datetime.now(UTC))
    listing = _placed(await _examine("list", partial(_list, storage, transport)))
    if listing.check == "credentials" and (source := transport.credentials_in_use()):
        listing = replace(listing, seen=f"from {source}: not accepted")
    if listing.error is None or isinstance(listing.error, AccessDenied):  # somebody knows us
        if isinstance(storage, CloudStorage):
            source = transport.credentials_in_use()
            yield Finding("credentials", Outcome.OK, f"from {source}" if source else "none, and none were asked for")
        yield await _examine("bucket", partial(_bucket, storage, transport))
    yield listing


async def _list(storage: ObjectStorage[Any], transport: Transport) -> Result:
    bucket = storage.keys.bucket
    try:
        async for _ in transport.list(bucket, storage.keys.temporary_root):
            pass
        async for _ in transport.list_uploads(bucket, storage.keys.root):
            pass
    except AccessDenied:
        if not await transport.has_bucket(bucket):
            raise BucketNotFound(f"the bucket {bucket!r} is not there; create it, or check its name") from None
        raise
    return Result("objects and unfinished uploads can be listed")


async def _bucket(storage: ObjectStorage[Any], transport: Transport) -> Result:
    bucket = storage.keys.bucket
    return Result(f"{bucket!r} {'is there' if await transport.has_bucket(bucket) else 'is made by the first write'}")


def _clock(told_time: datetime | None, before: datetime, after: datetime) -> Finding:
    if told_time is None:
        return Finding("clock", Outcome.SKIPPED, "the store tells no time")
    # A header has whole seconds, and was written between the two.
    skew = max(before - told_time - timedelta(seconds=1), told_time - after, timedelta(0))
    measured = {"skew_seconds": skew.total_seconds()}
    if skew <= WIDEST_SKEW:
        return Finding("clock", Outcome.OK, f"within {skew.total_seconds():.0f} s of the store's", measured=measured)
    return Finding(
        "clock",
        Outcome.WARNING,
        f"{skew.total_seconds():.0f} s away from the store's",
        "set this machine's clock, by NTP for example: past 15 minutes signatures are refused",
        measured,
    )


async def _examine(check: str, trial: Callable[[], Awaitable[Result]]) -> Finding:
    """The finding of a trial, whatever comes out of it."""
    try:
        result = await trial()
    except Skip as skip:
        return Finding(check, Outcome.SKIPPED, str(skip))
    except LakeryCloudError as error:
        return _failed(check, error)
    except Exception as error:  # noqa: BLE001, a store that is no good may answer anything
        return _failed(
            check, LakeryCloudError(f"something that makes no sense: {type(error).__name__}: {redact_error(error)}")
        )
    return Finding(check, result.outcome, result.seen, result.advice, result.measured)


_SEEN: tuple[tuple[type[LakeryCloudError], str], ...] = (
    (CredentialsError, "none, or not accepted"),
    (BucketNotFound, "not there"),
    (Unreachable, "no connection"),
    (StorageUnavailable, "no answer that helps"),
    (AccessDenied, "not allowed"),
    (IntegrityError, "not what was written"),
    (ConfigError, "a setting is wrong"),
)
"""Error -> what a finding says of it in short."""


def _failed(check: str, error: LakeryCloudError) -> Finding:
    """The finding of an error; what to do stands in its message, as in every message of ours."""
    short = next((text for kind, text in _SEEN if isinstance(error, kind)), "failed")
    return Finding(check, Outcome.FAILED, short, str(error), error=error)


def _placed(finding: Finding) -> Finding:
    """An early finding under the check that its error is about, whatever was asked for."""
    kinds = ((CredentialsError, "credentials"), (BucketNotFound, "bucket"), (Unreachable, "reach"))
    return replace(finding, check=next((to for kind, to in kinds if isinstance(finding.error, kind)), finding.check))
