"""What `diagnose` tries: each right and each promise of a store, on temporary keys that nobody else uses.

A trial returns what it saw, or raises. It changes nothing but its own keys on a `Bench`.
"""

import os
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from lakery_cloud.engine.model import (
    ConditionUnsupported,
    KeyExists,
    KeyMissing,
    Unreachable,
    WriteConflict,
)
from lakery_cloud.errors import IntegrityError, LakeryCloudError
from lakery_cloud.maintenance.bench import Bench, Skip, attributes_of
from lakery_cloud.streams.parts import Part
from lakery_cloud.streams.tasks import bounded_tasks, finish

MiB = 1024**2
GiB = 1024**3

SAMPLE = b"lakery-cloud doctor: a temporary object, which may be deleted\n"
OTHER = SAMPLE.upper()
TAGS = {"made-by": "lakery-cloud doctor"}
RACERS = 4
HEADS = 5
THROUGHPUT_SIZE = 4 * MiB
LITTLE_SPACE = 1 * GiB


class Outcome(StrEnum):
    """How a check went."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Result:
    """What a trial saw; see `Finding`."""

    seen: str
    outcome: Outcome = Outcome.OK
    advice: str | None = None
    measured: Mapping[str, float] = field(default_factory=dict)


async def space(bench: Bench) -> Result:
    """Room on the disk."""
    free = await bench.transport.free_space(bench.keys.bucket)
    if free is None:
        raise Skip("no limit is known")
    is_little = free < LITTLE_SPACE
    return Result(
        f"{free / GiB:.1f} GiB are free",
        Outcome.WARNING if is_little else Outcome.OK,
        "make room, or writes will fail soon" if is_little else None,
        {"free_bytes": free},
    )


async def put(bench: Bench) -> Result:
    """One create-only request."""
    address = bench.address()
    try:
        await bench.put(address, SAMPLE)
    except ConditionUnsupported:  # the transport leaves the condition out from now on
        bench.is_create_only = False
        await bench.put(address, SAMPLE)
    bench.written = address
    return Result(f"{len(SAMPLE)} bytes were stored")


async def head(bench: Bench) -> Result:
    """What the store says about an object."""
    address = bench.needs_written()
    info = await bench.transport.head(address)
    if info is None or info.size != len(SAMPLE):
        said = "is not there" if info is None else f"has {info.size} bytes"
        raise IntegrityError(f"{address} {said}, although {len(SAMPLE)} bytes were put")
    bench.sample = info
    return Result("size and version are as they were put")


async def get(bench: Bench) -> Result:
    """A range of an object; without one, whether reading is allowed at all."""
    if bench.written is None:
        try:
            await bench.body(bench.address())
        except KeyMissing:
            return Result("reading is allowed; nothing is there to be read")
        raise IntegrityError("an object that nobody has made was read")
    start, data = await bench.body(bench.written, start=3, stop=10)
    if start is None and data == SAMPLE:
        bench.is_readable = True
        return Result(
            "the store ignores ranges and gives the whole object",
            Outcome.WARNING,
            "reads that break off begin anew; leave concurrent_ranges at 0 or 1",
        )
    if data != SAMPLE[3:10]:
        raise IntegrityError(f"bytes 3 to 10 of {bench.written} are {data!r:.100}, not {SAMPLE[3:10]!r}")
    bench.is_readable = True
    return Result("a range came as it was put")


async def create_only(bench: Bench) -> Result:
    """Whether a second put to a key is refused, and the first one stays."""
    bench.needs_written()
    if bench.is_create_only is False:
        return Result(
            "the endpoint refuses create-only writes, which the storage notices",
            Outcome.WARNING,
            _switch_off(bench, "it then saves the refused request, and looks before it writes"),
        )
    if not bench.transport.conditional_writes:
        raise Skip("conditional_writes is false: the storage looks before it writes")
    address = bench.address()
    await bench.put(address, SAMPLE)
    try:
        await bench.put(address, OTHER)
    except KeyExists:
        bench.is_create_only = True
    else:
        bench.is_create_only = False
        return Result(
            "a second put to a key replaced the first: the endpoint ignores If-None-Match",
            Outcome.WARNING,
            _switch_off(bench, "the storage then looks before it writes"),
        )
    if bench.is_readable and (await bench.body(address))[1] != SAMPLE:
        raise IntegrityError(f"a second put to {address} was refused, but has changed it")
    return Result("a second put to a key is refused, and the first stays")


def _switch_off(bench: Bench, so_that: str) -> str:
    if bench.has_switch:
        return f"set conditional_writes=false in the storage's settings: {so_that}"
    return "use another endpoint: this one does not do what its cloud does"


async def create_only_race(bench: Bench) -> Result:
    """Whether one of several writers at once creates the key."""
    bench.needs_written()
    if not bench.is_create_only:
        raise Skip("create-only writes don't work here")
    address, created = bench.address(), []

    async def write(number: int) -> None:
        try:
            await bench.put(address, SAMPLE + bytes([number]))
        except (KeyExists, WriteConflict):
            return
        created.append(number)

    async with bounded_tasks(RACERS) as tasks:
        for number in range(RACERS):
            await tasks.start(write(number))
    if len(created) == 1:
        return Result(f"of {RACERS} writers at once one created the key")
    return Result(
        f"of {RACERS} writers at once {len(created)} were told that they created the key",
        Outcome.WARNING,
        "writers of the same content at once may replace each other's, which is the same; nothing needs to be done",
    )


async def checksum(bench: Bench) -> Result:
    """Whether bytes that are not what their checksum says are refused."""
    bench.needs_written()
    address = bench.address()
    sent: list[bool] = []

    async def damage() -> None:
        sent.append(await bench.transport.put_damaged(address))

    try:
        await bench.making(address, damage())
    except IntegrityError:
        return Result("bytes that are not what their checksum says are refused")
    if not sent[0]:
        raise Skip("puts have no checksum here; reads verify content")
    return Result(
        "bytes that are not what their checksum says were stored",
        Outcome.WARNING,
        "damage on the way in shows at the next read only: read back what matters, or run `lakery-cloud verify`",
    )


async def tags(bench: Bench) -> Result:
    """Tags, there and back."""
    bench.needs_written()
    address = bench.address()
    try:
        await bench.put(address, SAMPLE, TAGS)
        kept = await bench.transport.tags(address)
    except Unreachable:
        raise
    except LakeryCloudError as error:
        return Result("tags don't work", Outcome.WARNING, f"needed only if you tag content: {error}")
    if dict(kept) == TAGS:
        return Result("tags came back as they were put")
    return Result(
        "tags were not kept",
        Outcome.WARNING,
        "don't rely on tags here; on a file system they need extended attributes. Records do not need them",
    )


async def multipart(bench: Bench) -> Result:
    """An upload in two parts."""
    first, last = os.urandom(bench.part_size), b"."
    address = bench.address()
    async with bench.uploading(address, await attributes_of(b"", {})) as scope:
        parts = (Part(1, 0, (first,), False), Part(2, len(first), (last,), True))
        receipts = [await bench.transport.upload_part(scope.upload, part) for part in parts]
        await scope.complete(receipts, size=len(first) + len(last))
        made = await bench.transport.head(address)
    if made is None or made.size != len(first) + len(last):
        raise IntegrityError(f"{address} is not what its parts were")
    bench.can_upload = True
    return Result(f"two parts of {len(first)} and {len(last)} bytes became one object")


async def abort(bench: Bench) -> Result:
    """An upload that is given up: listed before, and no longer after."""
    if not bench.can_upload:
        raise Skip("no upload in parts could be made")
    address = bench.address()
    async with bench.uploading(address, await attributes_of(b"", {})) as scope:
        await bench.transport.upload_part(scope.upload, Part(1, 0, (os.urandom(bench.part_size),), False))
        was_listed = address.key in await bench.left()
        await bench.transport.abort_upload(address, scope.upload)
    if address.key in await bench.left():
        raise LakeryCloudError(f"the upload to {address} was aborted, but is still listed")
    if was_listed:
        return Result("an unfinished upload is listed, and gone once it was aborted")
    return Result("an unfinished upload could be aborted; the store lists none")


async def copy(bench: Bench) -> Result:
    """A copy inside of the store, which the content key of a stream is made by."""
    bench.needs_written()
    if bench.sample is None:
        raise Skip("what was put could not be looked at")
    address = bench.address()
    await bench.making(address, bench.transport.copy(bench.sample, address, await attributes_of(SAMPLE, {})))
    made = await bench.transport.head(address)
    if made is None or made.size != len(SAMPLE):
        raise IntegrityError(f"{address} is not what it was copied from")
    bench.copied = address
    return Result("a copy inside of the store is like its source")


async def create_only_copy(bench: Bench) -> Result:
    """Whether a second copy to a key is refused."""
    if bench.copied is None or bench.sample is None:
        raise Skip("nothing could be copied")
    if not bench.transport.conditional_writes:
        raise Skip("conditional_writes is false: the storage looks before it copies")
    request = bench.transport.copy(bench.sample, bench.copied, await attributes_of(SAMPLE, {}))
    try:
        await bench.making(bench.copied, request)
    except KeyExists:
        return Result("a second copy to a key is refused")
    return Result(
        "a second copy to a key replaced the first",
        Outcome.WARNING,
        "a stream that is written twice at once is copied twice, to the same content; nothing needs to be done",
    )


async def latency(bench: Bench) -> Result:
    """How long a small request takes."""
    address = bench.written or bench.address()
    seconds = []
    for _ in range(HEADS):
        begin = time.perf_counter()
        await bench.transport.head(address)
        seconds.append(time.perf_counter() - begin)
    median = statistics.median(seconds)
    return Result(f"a request takes {median * 1000:.1f} ms (median of {HEADS})", measured={"seconds": median})


async def throughput(bench: Bench) -> Result:
    """How fast one connection writes and reads."""
    bench.needs_written()
    if not bench.is_readable:
        raise Skip("nothing could be read")
    address, data = bench.address(), os.urandom(THROUGHPUT_SIZE)
    attributes = await attributes_of(data, {})
    begin = time.perf_counter()
    await bench.making(address, bench.transport.put(address, data, attributes))
    written = time.perf_counter()
    _, read = await bench.body(address)
    end = time.perf_counter()
    if read != data:
        raise IntegrityError(f"{address} is not what was put")
    put_rate, get_rate = len(data) / (written - begin), len(data) / (end - written)
    return Result(
        f"put {put_rate / 1e6:.1f} MB/s, get {get_rate / 1e6:.1f} MB/s (one request of {len(data) // MiB} MiB each)",
        measured={"put_bytes_per_second": put_rate, "get_bytes_per_second": get_rate},
    )


async def delete(bench: Bench) -> Result:
    """Deleting; without an object, whether it is allowed at all."""
    address = bench.written or bench.address()
    await bench.transport.delete(address)
    if await bench.transport.head(address) is not None:
        raise LakeryCloudError(f"{address} was deleted, but is still there")
    return Result("an object is gone when it was deleted" if bench.written else "deleting is allowed")


async def nothing_left(bench: Bench) -> Result:
    """Delete what is still there, and prove it."""
    count, failure = 0, None
    try:
        count = await finish(bench.clean_up(), seconds=bench.cleanup_timeout)
    except LakeryCloudError as error:
        failure = error
    bench.is_over = True
    if left := await bench.left():
        raise LakeryCloudError(
            f"left behind: {', '.join(left)}. Remove it with `lakery-cloud sweep` when deleting works again"
        ) from failure
    return Result("all that was made is gone" if count else "nothing was made")


Trial = Callable[[Bench], Awaitable[Result]]

TRIALS: Mapping[str, Trial] = {
    "space": space,
    "put": put,
    "head": head,
    "get": get,
    "create-only": create_only,
    "create-only race": create_only_race,
    "checksum": checksum,
    "tags": tags,
    "multipart": multipart,
    "abort": abort,
    "copy": copy,
    "create-only copy": create_only_copy,
    "latency": latency,
    "throughput": throughput,
    "delete": delete,
    "nothing left": nothing_left,
}
"""Every trial by its name, in the order in which they are made."""
