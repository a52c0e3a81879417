"""`diagnose` checks everything that a storage needs from its store, on temporary keys, and deletes them at the end.

This module has no code for single clouds; everything specific to one comes through `Transport`.
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
from lakery_cloud.engine.model import Archived, Full, Uncertain, Unreachable, Unsupported
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
from lakery_cloud.maintenance.check_context import CheckContext, SkipCheck
from lakery_cloud.maintenance.checks import STORE_CHECKS, Outcome, Result
from lakery_cloud.redaction import redact_error
from lakery_cloud.streams.tasks import finish

logger = logging.getLogger("lakery_cloud")

MAX_SKEW = timedelta(minutes=5)
"""A third of the skew at which S3 and Azure refuse signatures (S3 API Reference, "RequestTimeTooSkewed"; Microsoft Learn,
"Authorize with Shared Key"), so that the warning comes before the refusals."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        check: Name of the check; `CHECKS` has all of them.
        outcome: Its outcome.
        seen: What the check observed.
        advice: What to grant or to do, or None.
        measured: Measured values, by names that include their units.
        error: The error of a failed check.
    """

    check: str
    outcome: Outcome
    seen: str
    advice: str | None = None
    measured: Mapping[str, float] = field(default_factory=dict)
    error: LakeryCloudError | None = None


CHECKS = ("settings", "reach", "clock", "credentials", "bucket", "list", *STORE_CHECKS)
"""Names of all checks, in the order of their findings. A failure before `list` prevents all other checks."""


async def diagnose(storage: ObjectStorage[Any]) -> AsyncGenerator[Finding]:
    """Check a storage: connection, clock, credentials, each permission, and each guarantee of the store.

    A missing permission doesn't stop the other checks. If the store can't be reached, refuses the credentials or has no
    such bucket, this is the last finding.

    The checks create objects at temporary keys only, with a `temporary_bucket` all but one of them there. They are
    deleted at the end, also after cancellation and when you close the generator; the last finding confirms it. If the
    minimum part size is 5 MiB, about 25 MB are transferred.

    Args:
        storage: The storage. It stays open.

    Yields:
        Findings, each as soon as its check ends. Failed checks are findings, not exceptions.
    """
    opened: list[Transport] = []

    async def open_client() -> Result:
        opened.append(await storage.transport())
        return Result("the client is open")

    finding = _attribute_to_cause(await _run_check("settings", open_client))
    if finding.error is not None:
        yield finding
        return
    transport = opened[0]
    async with aclosing(_check_access(storage, transport)) as findings:
        async for finding in findings:
            yield finding
            if finding.error is not None and finding.check != "list":
                return
    context = CheckContext(storage, transport)
    try:
        for name, check in STORE_CHECKS.items():
            finding = await _run_check(name, partial(check, context))
            yield finding
            if isinstance(finding.error, Unreachable):
                return
    finally:
        if not context.is_cleaned_up:
            await _clean_up(context)


async def _clean_up(context: CheckContext) -> None:
    """Clean up after a diagnosis that ended early, and log a failure, since the caller reads no more findings."""
    try:
        await finish(context.clean_up(), seconds=context.cleanup_timeout)
    except Exception:
        logger.warning(
            "could not delete the temporary objects of a diagnosis in bucket %s below %r; "
            "remove them with `lakery-cloud sweep`",
            " or ".join(map(repr, context.keys.buckets)),
            context.keys.temporary_root,
            exc_info=True,
        )


async def _check_access(storage: ObjectStorage[Any], transport: Transport) -> AsyncGenerator[Finding]:
    """Check connection, clock, credentials, bucket and listing."""
    bucket = storage.keys.bucket
    if isinstance(storage, CloudStorage):
        start, started_at = time.perf_counter(), datetime.now(UTC)
        times: list[datetime | None] = []

        async def reach() -> Result:
            times.append(await transport.server_time(bucket))
            return Result(f"the store responded in {(time.perf_counter() - start) * 1000:.0f} ms")

        yield (finding := _attribute_to_cause(await _run_check("reach", reach)))
        if finding.error is not None:
            return
        yield _clock(times[0], started_at, datetime.now(UTC))
    listing = _attribute_to_cause(await _run_check("list", partial(_list, storage, transport)))
    kind = transport.credential_kind()
    source = f"from {storage.credential_source()} ({kind})" if kind else "none"
    if listing.check == "credentials" and kind:
        listing = replace(listing, seen=f"{source}: refused")
    if listing.error is None or isinstance(listing.error, AccessDenied):  # the store accepted the credentials
        if isinstance(storage, CloudStorage):
            yield Finding("credentials", Outcome.OK, source if kind else "none, and the store needs none")
        yield await _run_check("bucket", partial(_bucket, storage, transport))
    yield listing


async def _list(storage: ObjectStorage[Any], transport: Transport) -> Result:
    for bucket in storage.keys.buckets:
        try:
            async for _ in transport.list(bucket, storage.keys.temporary_root):
                pass
            async for _ in transport.list_uploads(bucket, storage.keys.root):
                pass
        except AccessDenied:
            if not await transport.has_bucket(bucket):
                raise BucketNotFound(f"bucket {bucket!r} does not exist; create it, or correct its name") from None
            raise
    return Result("objects and unfinished uploads can be listed")


async def _bucket(storage: ObjectStorage[Any], transport: Transport) -> Result:
    found = [
        f"{bucket!r} {'exists' if await transport.has_bucket(bucket) else 'will be created by the first write'}"
        for bucket in storage.keys.buckets
    ]
    return Result(", ".join(found))


def _clock(server_time: datetime | None, before: datetime, after: datetime) -> Finding:
    if server_time is None:
        return Finding("clock", Outcome.SKIPPED, "the store reports no time")
    # The header has whole seconds, and was written between `before` and `after`.
    skew = max(before - server_time - timedelta(seconds=1), server_time - after, timedelta(0))
    measured = {"skew_seconds": skew.total_seconds()}
    if skew <= MAX_SKEW:
        return Finding("clock", Outcome.OK, f"within {skew.total_seconds():.0f} s of the store's", measured=measured)
    return Finding(
        "clock",
        Outcome.WARNING,
        f"{skew.total_seconds():.0f} s away from the store's",
        "set this machine's clock, for example by NTP: at 15 minutes the store refuses signatures",
        measured,
    )


async def _run_check(name: str, check: Callable[[], Awaitable[Result]]) -> Finding:
    """Run a check, and turn its result or error into a finding."""
    try:
        result = await check()
    except SkipCheck as skip:
        return Finding(name, Outcome.SKIPPED, str(skip))
    except LakeryCloudError as error:
        return _failed_finding(name, error)
    except Exception as error:  # noqa: BLE001, a defective store may send any response
        unexpected = LakeryCloudError(f"unexpected {type(error).__name__} in the check {name!r}: {redact_error(error)}")
        return _failed_finding(name, unexpected)
    return Finding(name, result.outcome, result.seen, result.advice, result.measured)


_SUMMARIES: tuple[tuple[type[LakeryCloudError], str], ...] = (
    (CredentialsError, "missing or refused"),
    (BucketNotFound, "does not exist"),
    (Unreachable, "no connection"),
    (Archived, "archived"),
    (Full, "no space left"),
    (Uncertain, "no usable response"),
    (StorageUnavailable, "the store is unavailable"),
    (AccessDenied, "permission denied"),
    (IntegrityError, "the stored bytes differ from the written ones"),
    (Unsupported, "not supported by the store"),
    (ConfigError, "a setting is wrong"),
)
"""Error -> `Finding.seen`."""


def _failed_finding(check: str, error: LakeryCloudError) -> Finding:
    """Return the finding of an error, whose message is also the advice."""
    summary = next((text for kind, text in _SUMMARIES if isinstance(error, kind)), "failed")
    return Finding(check, Outcome.FAILED, summary, str(error), error=error)


def _attribute_to_cause(finding: Finding) -> Finding:
    """Move a finding to the check that its error is about, such as from `list` to `credentials`."""
    causes = ((CredentialsError, "credentials"), (BucketNotFound, "bucket"), (Unreachable, "reach"))
    check = next((check for kind, check in causes if isinstance(finding.error, kind)), finding.check)
    return replace(finding, check=check)
