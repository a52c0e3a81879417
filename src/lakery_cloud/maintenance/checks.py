"""The checks of `diagnose` that send requests: each permission and each guarantee of a store, on temporary keys.

A check returns a result or raises. It writes only to keys of its `CheckContext`.
"""

import asyncio
import gzip
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import (
    KeyExists,
    KeyMissing,
    ObjectInfo,
    Unreachable,
    WriteConflict,
)
from lakery_cloud.engine.requests import backoff
from lakery_cloud.engine.writer import CONFLICT_PAUSE, CREATE_ATTEMPTS
from lakery_cloud.errors import AccessDenied, ConfigError, IntegrityError, LakeryCloudError, StorageUnavailable
from lakery_cloud.maintenance.check_context import CheckContext, SkipCheck, attributes_of
from lakery_cloud.streams.parts import Part
from lakery_cloud.streams.tasks import bounded_tasks, finish

MiB = 1024**2
GiB = 1024**3

SAMPLE = b"lakery-cloud doctor: a temporary object, which may be deleted\n"
OTHER = SAMPLE.upper()
TAGS = {"made-by": "lakery-cloud doctor"}
CONCURRENT_WRITERS = 4
LATENCY_REQUESTS = 5
THROUGHPUT_SIZE = 4 * MiB
LOW_SPACE = 1 * GiB


class Outcome(StrEnum):
    """The outcome of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a check that did not fail; `Finding` documents the attributes."""

    seen: str
    outcome: Outcome = Outcome.OK
    advice: str | None = None
    measured: Mapping[str, float] = field(default_factory=dict)


async def space(context: CheckContext) -> Result:
    """Check the free space of the file system."""
    free = await context.transport.free_space(context.keys.bucket)
    if free is None:
        raise SkipCheck("the store reports no limit")
    is_low = free < LOW_SPACE
    return Result(
        f"{free / GiB:.1f} GiB are free",
        Outcome.WARNING if is_low else Outcome.OK,
        "free some space before writes fail" if is_low else None,
        {"free_bytes": free},
    )


async def retention(context: CheckContext) -> Result:
    """Look up what keeps objects from being deleted."""
    found = await context.transport.retention(context.keys.temporary().bucket)
    if found is None:
        raise SkipCheck("the store does not tell")
    context.retention = found
    if not found:
        return Result("nothing keeps objects from being deleted")
    return Result(
        f"{found} keeps objects",
        Outcome.WARNING,
        "streams of more than one part are saved, but each leaves a temporary object of its size until the retention ends; "
        f"set {context.temporary_bucket_setting} to a bucket without retention. The checks leave out what they could not "
        "delete",
    )


async def put(context: CheckContext) -> Result:
    """Put an object with a create-only request."""
    context.require_no_retention()
    address, was_conditional = context.address(), context.transport.conditional_writes
    try:
        await context.put(address, SAMPLE)
    except KeyExists as signal:  # the key is new: a retry has found the object of the first attempt
        raise StorageUnavailable(
            f"the object was stored, but the response to the put did not prove it: {signal}. Check that endpoint_url is "
            "the store's API, and that no proxy changes its responses"
        ) from signal
    if was_conditional and not context.transport.conditional_writes:
        context.is_create_only = False
    context.written = address
    return Result(f"{len(SAMPLE)} bytes were stored")


async def head(context: CheckContext) -> Result:
    """Look up the put object."""
    address = context.require_written()
    context.sample = _check_size(address, await context.transport.head(address), len(SAMPLE), "a put")
    if (context.sample.version or "").startswith("W/"):
        return Result(
            "the object has the size that was put, but a weak ETag, as behind a proxy that compresses",
            Outcome.WARNING,
            "the store can't pin interrupted reads to a version, so that only the hash shows a change meanwhile: leave "
            "verify on, or switch off the compression of the proxy",
        )
    return Result("the object has the size that was put")


async def get(context: CheckContext) -> Result:
    """Read a range of the put object; without an object, check only the permission."""
    if context.written is None:
        address = context.address()
        try:
            await context.read(address)
        except KeyMissing:
            return Result("reading is allowed; there is no object to read")
        raise IntegrityError(f"{address} was never written, but the store returned content for it")
    start, data = await context.read(context.written, start=3, stop=10)
    if start is None and data == SAMPLE:
        context.is_readable = True
        return Result(
            "the store ignores ranges and returns the whole object",
            Outcome.WARNING,
            "interrupted reads restart from the beginning; leave concurrent_ranges at 0 or 1",
        )
    if data != SAMPLE[3:10]:
        raise IntegrityError(f"bytes 3 to 10 of {context.written} are {data!r:.100}, not {SAMPLE[3:10]!r}")
    context.is_readable = True
    return Result("the range has the bytes that were put")


async def create_only(context: CheckContext) -> Result:
    """Check that the store refuses a second put to the same key."""
    context.require_written()
    if context.is_create_only is False:
        return Result(
            "the endpoint does not support create-only writes; the storage detects this",
            Outcome.WARNING,
            _advise_unconditional(
                context, "this saves the refused request; the storage checks for the key before it writes"
            ),
        )
    if not context.transport.conditional_writes:
        raise SkipCheck("conditional_writes is false; the storage checks for the key before it writes")
    address = context.address()
    await context.put(address, SAMPLE)
    try:
        await _create_again(lambda: context.put(address, OTHER))
    except KeyExists:
        context.is_create_only = True
    else:
        context.is_create_only = False
        return Result(
            "the endpoint ignores If-None-Match: a second put replaced the object",
            Outcome.WARNING,
            _advise_unconditional(context, "the storage then checks for the key before it writes"),
        )
    if context.is_readable and (await context.read(address))[1] != SAMPLE:
        raise IntegrityError(f"a second put to {address} was refused, but changed the object")
    return Result("a second put to the same key is refused")


async def _create_again(create: Callable[[], Awaitable[None]]) -> None:
    """Send a create-only request for an existing key. Some stores allow one change of a key a second."""
    for attempt in range(1, CREATE_ATTEMPTS):
        try:
            return await create()
        except WriteConflict:
            await asyncio.sleep(backoff(attempt, first=CONFLICT_PAUSE))
    return await create()


def _advise_unconditional(context: CheckContext, effect: str) -> str:
    if context.has_conditional_writes_setting:
        return f"set conditional_writes=false in the storage's settings: {effect}"
    return "use another endpoint: this one does not behave as its cloud"


async def create_only_race(context: CheckContext) -> Result:
    """Check that exactly one of several concurrent writers creates the key."""
    context.require_written()
    if not context.is_create_only:
        raise SkipCheck("create-only writes don't work")
    address, created = context.address(), []

    async def write(number: int) -> None:
        try:
            await context.put(address, SAMPLE + bytes([number]))
        except (KeyExists, WriteConflict):
            return
        created.append(number)

    async with bounded_tasks(CONCURRENT_WRITERS) as tasks:
        for number in range(CONCURRENT_WRITERS):
            await tasks.start(write(number))
    if len(created) == 1:
        return Result(f"one of {CONCURRENT_WRITERS} concurrent writers created the key")
    return Result(
        f"{len(created)} of {CONCURRENT_WRITERS} concurrent writers were reported to create the key",
        Outcome.WARNING,
        "no action needed: concurrent writers of one key write the same content",
    )


async def checksum(context: CheckContext) -> Result:
    """Check that the store refuses bytes that don't match their checksum."""
    context.require_written()
    address = context.address()
    sent: list[bool] = []

    async def damage() -> None:
        sent.append(await context.transport.put_damaged(address))

    try:
        await context.create(address, damage())
    except IntegrityError:
        return Result("bytes that don't match their checksum are refused")
    if not sent[0]:
        raise SkipCheck("puts have no checksum; reads verify content")
    return Result(
        "the store accepted bytes that don't match their checksum",
        Outcome.WARNING,
        "only reads detect damage from a transfer: run `lakery-cloud verify` after important writes",
    )


async def tags(context: CheckContext) -> Result:
    """Put an object with tags, and read them."""
    context.require_written()
    address = context.address()
    try:
        await context.put(address, SAMPLE, tags=TAGS)
        kept = await context.transport.tags(address)
    except Unreachable:
        raise
    except LakeryCloudError as error:
        return Result("tags don't work", Outcome.WARNING, f"{error} (relevant only if you tag content)")
    if dict(kept) == TAGS:
        return Result("tags are stored")
    return Result(
        "the store dropped the tags",
        Outcome.WARNING,
        "don't rely on tags in this store; a file system needs extended attributes for them. Records work without tags",
    )


async def encoding(context: CheckContext) -> Result:
    """Read content with a content encoding as it was put."""
    context.require_written()
    if not context.is_readable:
        raise SkipCheck("no object could be read")
    address, data = context.address(), gzip.compress(SAMPLE, mtime=0)
    await context.put(address, data, content_encoding="gzip")
    try:
        _, found = await context.read(address)
    except Unreachable:
        raise
    except StorageUnavailable as error:
        return Result("encoded content can't be read", Outcome.WARNING, f"{error} ({_ENCODED})")
    if found == data:
        return Result("encoded content comes back as it was put")
    return Result("the store changes encoded content", Outcome.WARNING, f"don't set content_encoding ({_ENCODED})")


_ENCODED = "relevant only for content with a content_encoding"


async def multipart(context: CheckContext) -> Result:
    """Upload an object in three parts, of different sizes unless the storage keeps them equal."""
    context.require_no_retention()
    size = context.part_size
    if not context.has_equal_parts:
        try:
            seen = await _upload(context, (size, size + context.part_multiple, 1))
        except LakeryCloudError as error:
            if not context.has_equal_parts_setting or not isinstance(error, ConfigError):
                raise
            await _upload(context, (size, size, 1))
            return Result("parts of different sizes are refused", Outcome.WARNING, str(error))
        return Result(seen)
    return Result(await _upload(context, (size, size, 1)))


async def _upload(context: CheckContext, sizes: Sequence[int]) -> str:
    address = context.address()
    async with context.uploading(address, await attributes_of(b"", {})) as scope:
        receipts, offset = [], 0
        for number, size in enumerate(sizes, start=1):
            part = Part(number, offset, (os.urandom(size),), number == len(sizes))
            receipts.append(await context.transport.upload_part(scope.upload, part))
            offset += size
        await scope.complete(receipts, size=offset)
        _check_size(address, await context.transport.head(address), offset, "a multipart upload")
    context.can_upload = True
    return f"parts of {', '.join(map(str, sizes))} bytes became one object"


async def abort(context: CheckContext) -> Result:
    """Abort an upload, and check that it is no longer listed."""
    if not context.can_upload:
        raise SkipCheck("no multipart upload succeeded")
    address = context.address()
    async with context.uploading(address, await attributes_of(b"", {})) as scope:
        await context.transport.upload_part(scope.upload, Part(1, 0, (os.urandom(context.part_size),), False))
        was_listed = address in await context.remaining()
        await context.transport.abort_upload(address, scope.upload)
    if address in await context.remaining():
        raise LakeryCloudError(f"the upload to {address} is still listed after its abort")
    if was_listed:
        return Result("an unfinished upload is listed until it is aborted")
    return Result("an unfinished upload can be aborted; the store does not list it")


async def copy(context: CheckContext) -> Result:
    """Copy an object inside the store to the bucket of the content, as a write of a stream does."""
    context.require_written()
    if context.sample is None:
        raise SkipCheck("the put object could not be looked up")
    kept = await context.transport.retention(context.keys.bucket) if context.has_temporary_bucket else None
    address = context.address() if kept else context.address_beside_content()
    await context.create(address, context.transport.copy(context.sample, address, await attributes_of(SAMPLE, {})))
    _check_size(address, await context.transport.head(address), len(SAMPLE), "a copy")
    context.copied = address
    if not context.has_temporary_bucket:
        return Result("a copy inside the store has the size of its source")
    if kept:
        return Result(
            f"a copy has the size of its source; bucket {context.keys.bucket!r} got none, since {kept} would keep it"
        )
    if (await context.read(address))[1] != SAMPLE:
        raise IntegrityError(f"{address} has other bytes than its source")
    return Result(f"a copy from bucket {context.keys.temporary_bucket!r} to {address.bucket!r} equals its source")


async def create_only_copy(context: CheckContext) -> Result:
    """Check that the store refuses a second copy to the same key."""
    if context.copied is None or context.sample is None:
        raise SkipCheck("no object could be copied")
    if not context.transport.conditional_writes:
        raise SkipCheck("conditional_writes is false; the storage checks for the key before it copies")
    copy_again = partial(context.transport.copy, context.sample, context.copied, await attributes_of(SAMPLE, {}))
    copied = context.copied
    try:
        await _create_again(lambda: context.create(copied, copy_again()))
    except KeyExists:
        return Result("a second copy to the same key is refused")
    return Result(
        "a second copy to the same key replaced the object",
        Outcome.WARNING,
        "no action needed: concurrent writers of one key copy the same content",
    )


async def latency(context: CheckContext) -> Result:
    """Measure the duration of small requests."""
    address = context.written or context.address()
    seconds = []
    for _ in range(LATENCY_REQUESTS):
        begin = time.perf_counter()
        await context.transport.head(address)
        seconds.append(time.perf_counter() - begin)
    median = statistics.median(seconds)
    return Result(
        f"a request takes {median * 1000:.1f} ms (median of {LATENCY_REQUESTS})", measured={"seconds": median}
    )


async def throughput(context: CheckContext) -> Result:
    """Measure the throughput of one put and one get."""
    context.require_written()
    if not context.is_readable:
        raise SkipCheck("no object could be read")
    address, data = context.address(), os.urandom(THROUGHPUT_SIZE)
    attributes = await attributes_of(data, {})
    begin = time.perf_counter()
    await context.create(address, context.transport.put(address, data, attributes))
    written = time.perf_counter()
    _, read = await context.read(address)
    end = time.perf_counter()
    if read != data:
        raise IntegrityError(f"{address} has other bytes than were put")
    put_rate, get_rate = len(data) / (written - begin), len(data) / (end - written)
    return Result(
        f"put {put_rate / 1e6:.1f} MB/s, get {get_rate / 1e6:.1f} MB/s (one request of {len(data) // MiB} MiB each)",
        measured={"put_bytes_per_second": put_rate, "get_bytes_per_second": get_rate},
    )


async def delete(context: CheckContext) -> Result:
    """Delete the put object; without an object, check only the permission."""
    address = context.written or context.address()
    await context.delete(address)
    if await context.transport.head(address) is not None:
        raise LakeryCloudError(f"{address} still exists after its deletion")
    if context.has_temporary_bucket and context.copied is not None and context.copied.bucket == context.keys.bucket:
        try:
            await context.delete(context.copied)
        except Unreachable:
            raise
        except LakeryCloudError as error:
            context.keep(context.copied)
            return Result(
                f"temporary objects can be deleted, but {context.copied} can't",
                Outcome.WARNING,
                f"{error} (relevant only if you delete content; the object stays)",
            )
    return Result("a deleted object is gone" if context.written else "deleting is allowed")


async def versions(context: CheckContext) -> Result:
    """Find out what the bucket keeps of deleted objects; delete a version for good, if it keeps versions."""
    kept = await context.transport.kept_objects(context.keys.temporary_bucket)
    if kept is not None:
        return Result("; ".join(kept) or "the bucket keeps nothing of deleted objects")
    context.require_written()
    address = context.address()
    await context.put(address, SAMPLE)
    info = _check_size(address, await context.transport.head(address), len(SAMPLE), "a put")
    if info.version_id is None:
        raise SkipCheck("the store names no versions")
    try:
        await context.transport.delete_version(address, info.version_id)
    except AccessDenied as error:
        return Result(
            "the bucket keeps versions of deleted objects",
            Outcome.WARNING,
            f"{error}. Each stream leaves a version of its temporary object, until the rules of `lakery-cloud lifecycle` "
            f"delete it. Or set {context.temporary_bucket_setting} to a bucket without versions",
        )
    return Result("the bucket keeps versions, and temporary objects can be deleted with theirs")


async def nothing_left(context: CheckContext) -> Result:
    """Delete all objects of the other checks, and check that none is left."""
    count, failure = 0, None
    try:
        count = await finish(context.clean_up(), seconds=context.cleanup_timeout)
    except LakeryCloudError as error:
        failure = error
    context.is_cleaned_up = True
    if left := await context.remaining():
        places = (
            f"in bucket {bucket!r}: {', '.join(address.key for address in left if address.bucket == bucket)}"
            for bucket in sorted({address.bucket for address in left})
        )
        raise LakeryCloudError(
            f"could not delete these objects {'; '.join(places)}; "
            "when deleting works again, remove them with `lakery-cloud sweep`"
        ) from failure
    return Result("all objects of the checks are deleted" if count else "the checks created no objects")


def _check_size(address: Address, info: ObjectInfo | None, size: int, origin: str) -> ObjectInfo:
    if info is None or info.size != size:
        actual = "does not exist" if info is None else f"has {info.size} bytes"
        raise IntegrityError(f"{address} {actual} after {origin} of {size} bytes")
    return info


StoreCheck = Callable[[CheckContext], Awaitable[Result]]

STORE_CHECKS: Mapping[str, StoreCheck] = {
    "space": space,
    "retention": retention,
    "put": put,
    "head": head,
    "get": get,
    "create-only": create_only,
    "create-only race": create_only_race,
    "checksum": checksum,
    "tags": tags,
    "encoding": encoding,
    "multipart": multipart,
    "abort": abort,
    "copy": copy,
    "create-only copy": create_only_copy,
    "latency": latency,
    "throughput": throughput,
    "delete": delete,
    "versions": versions,
    "nothing left": nothing_left,
}
"""Name -> check, in the order in which they run."""
