"""Verified reads: one GET that resumes where it broke, or ranges read ahead; every request pinned to one version."""

import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from lakery_cloud.digest import HashingAhead, new_hasher
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.parts import ByteBudget
from lakery_cloud.engine.pipeline import ordered_map
from lakery_cloud.engine.settings import EngineSettings
from lakery_cloud.engine.transport import (
    Body,
    BodyInterrupted,
    KeyMissing,
    ObjectInfo,
    Transport,
    VersionChanged,
    missing,
)
from lakery_cloud.errors import IntegrityError, StorageUnavailable

logger = logging.getLogger("lakery_cloud")

MAX_RESUMPTIONS = 5
"""Interruptions in a row, without a byte between them, before a read gives up."""
FIRST_LOOK = 8 * 1024**2
"""Bytes of one GET by which it shows how fast its connection is."""
SLOW_CONNECTION = 200e6
"""Bytes a second. Slower ones gain by ranges ahead: to Amazon S3 one connection carries 50 to 100 MB/s (S3 User Guide,
"Performance guidelines"). Faster ones lose by them."""
IDLE = 0.5
"""Share of the time that a process computes while it waits; with more it is itself what limits the rate."""
AUTOMATIC_RANGES = 8
"""Ranges that are read at a time where one connection turned out to be slow."""


@dataclass(frozen=True, slots=True)
class Location:
    """Storage data in the engine's words.

    Attributes:
        address: Bucket and key.
        content_hash: `<algorithm>:<hex>`; None in what other projects wrote, which can't be verified.
        size: Size in bytes; None where it is unknown.
    """

    address: Address
    content_hash: str | None
    size: int | None


async def read(
    transport: Transport, location: Location, *, settings: EngineSettings, budget: ByteBudget
) -> AsyncGenerator[bytes]:
    """The content in chunks as they arrive.

    The last chunk is held back until the hash is known to be right, so that a consumer that reads to the end never has
    wrong content in full without an error.

    Raises:
        NoStorageData: The object is not there.
        IntegrityError: The content is not what the location says, or the object changed while it was read.
        StorageUnavailable: The body broke off too often.
    """
    hasher, expected = _hasher_of(location) if settings.verify else (None, "")
    source = _source(transport, location, settings=settings, budget=budget)
    held_back = b""
    async with aclosing(source) as chunks:
        async for chunk in chunks:
            if hasher is not None:
                await hasher.update(chunk)
            if held_back:
                yield held_back
            held_back = chunk
    if hasher is not None and (found := await hasher.hexdigest()) != expected:
        raise IntegrityError(
            f"the content at {location.address} has the hash {found}, but {expected} was expected; "
            "it was damaged in the store or on the way"
        )
    if held_back:
        yield held_back


class _RangesIgnored(StorageUnavailable):
    """The endpoint answers with the whole object, whatever range is asked for."""


class _Progress:
    """Which version a read is pinned to, once its first answer told."""

    def __init__(self, version: str | None = None) -> None:
        self.version = version


async def _sequence(
    transport: Transport, location: Location, progress: _Progress, start: int = 0, stop: int | None = None
) -> AsyncGenerator[bytes]:
    """Bytes `start` to `stop` by one GET, and one more after each interruption."""
    interruptions = 0
    while True:
        try:
            async with transport.get(location.address, start=start, stop=stop, version=progress.version) as body:
                if not _is_wanted(body, start, stop):
                    raise _RangesIgnored(
                        f"the endpoint ignores ranges, so {location.address} can't be read in parts; set "
                        "concurrent_ranges to 1, and read it again if it broke off"
                    )
                check_size(location, body.info)
                progress.version = body.info.version
                stop = body.info.size if stop is None else stop
                async for chunk in body.chunks:
                    start += len(chunk)
                    interruptions = 0
                    if start > stop:
                        raise IntegrityError(f"more bytes than asked for came from {location.address}")
                    yield chunk
            if start == stop:
                return
            raise BodyInterrupted(f"the body ended {stop - start} bytes early")
        except KeyMissing as signal:
            raise await missing(transport, location.address) from signal
        except VersionChanged as signal:
            raise IntegrityError(
                f"the object at {location.address} changed while it was read; read it again from its start"
            ) from signal
        except BodyInterrupted as signal:
            interruptions += 1
            if interruptions > MAX_RESUMPTIONS:
                raise StorageUnavailable(
                    f"reading {location.address} broke off {interruptions} times at byte {start}; try again later"
                ) from signal
            logger.info("reading %s broke off at byte %d, resuming", location.address, start)


def _source(
    transport: Transport, location: Location, *, settings: EngineSettings, budget: ByteBudget
) -> AsyncGenerator[bytes]:
    """The bytes in the way that the settings ask for."""
    if (location.size or 0) <= settings.range_size or settings.concurrent_ranges == 1:
        return _sequence(transport, location, _Progress())
    way = _sequence_or_ranges if settings.concurrent_ranges is None else _pinned_ranges
    return way(transport, location, settings=settings, budget=budget)


async def _sequence_or_ranges(
    transport: Transport, location: Location, *, settings: EngineSettings, budget: ByteBudget
) -> AsyncGenerator[bytes]:
    """One GET, and ranges from where its connection turns out to be what limits the rate."""
    assert location.size is not None
    progress = _Progress()
    taken, waited, computed = 0, 0.0, 0.0
    async with aclosing(_sequence(transport, location, progress)) as chunks:
        while True:
            begun, computed_before = time.perf_counter(), time.process_time()
            chunk = await anext(chunks, None)
            if chunk is None:
                return
            if taken:  # what the first byte waits for is not the connection's rate
                waited += time.perf_counter() - begun
                computed += time.process_time() - computed_before
            taken += len(chunk)
            yield chunk
            is_slow = taken < waited * SLOW_CONNECTION and computed < waited * IDLE
            if taken >= FIRST_LOOK and is_slow and location.size - taken > settings.range_size:
                break
    try:
        rest = _ranges(
            transport, location, progress, taken, settings=settings, budget=budget, at_a_time=AUTOMATIC_RANGES
        )
        async with aclosing(rest) as chunks:
            async for chunk in chunks:
                taken += len(chunk)
                yield chunk
    except _RangesIgnored:
        logger.info("the endpoint ignores ranges; reading %s once more from its start", location.address)
        async with aclosing(_sequence(transport, location, progress)) as chunks:
            async for chunk in chunks:
                passed_over = min(taken, len(chunk))
                taken -= passed_over
                if chunk[passed_over:]:
                    yield chunk[passed_over:]


async def _pinned_ranges(
    transport: Transport, location: Location, *, settings: EngineSettings, budget: ByteBudget
) -> AsyncGenerator[bytes]:
    """All bytes by as many ranges at a time as the settings say, of the version that is there now."""
    info = await transport.head(location.address)
    if info is None:
        raise await missing(transport, location.address)
    check_size(location, info)
    at_a_time = settings.concurrent_ranges or AUTOMATIC_RANGES
    parts = _ranges(
        transport, location, _Progress(info.version), 0, settings=settings, budget=budget, at_a_time=at_a_time
    )
    async with aclosing(parts) as chunks:
        async for chunk in chunks:
            yield chunk


async def _ranges(
    transport: Transport,
    location: Location,
    progress: _Progress,
    start: int,
    *,
    settings: EngineSettings,
    budget: ByteBudget,
    at_a_time: int,
) -> AsyncGenerator[bytes]:
    """The bytes from `start` on by ranges of which several are read at a time."""
    size = location.size
    assert size is not None

    async def read_range(begin: int) -> list[bytes]:
        stop = min(begin + settings.range_size, size)
        async with aclosing(_sequence(transport, location, progress, begin, stop)) as chunks:
            return [chunk async for chunk in chunks]

    parts = ordered_map(
        read_range,
        range(start, size, settings.range_size),
        size_of=lambda _: settings.range_size,
        budget=budget,
        limit=at_a_time,
    )
    async with aclosing(parts) as ranges:
        async for chunks in ranges:
            for chunk in chunks:
                yield chunk


def _hasher_of(location: Location) -> tuple[HashingAhead | None, str]:
    if location.content_hash is None:
        return None, ""
    algorithm, _, expected = location.content_hash.partition(":")
    return HashingAhead(new_hasher(algorithm)), expected


def _is_wanted(body: Body, start: int, stop: int | None) -> bool:
    """Whether a store answered with the range that was asked for. Some know no ranges and answer with everything."""
    if body.start is None:
        return start == 0 and stop in (None, body.info.size)
    return body.start == start


def check_size(location: Location, info: ObjectInfo) -> None:
    """Refuse an object that can't be the content of its location.

    Raises:
        IntegrityError: It has another size.
    """
    if location.size is not None and info.size != location.size:
        raise IntegrityError(
            f"the object at {location.address} has {info.size} bytes, but {location.size} were expected"
        )
