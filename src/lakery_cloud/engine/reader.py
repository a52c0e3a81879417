"""Verified reads: one GET that resumes after interruptions, or concurrent ranges, all pinned to one version."""

import logging
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing

from lakery_cloud.engine.keys import Address, quarantined
from lakery_cloud.engine.model import (
    Body,
    BodyInterrupted,
    BodyTooSlow,
    KeyMissing,
    ObjectInfo,
    Signal,
    VersionChanged,
)
from lakery_cloud.engine.quarantine import find_object, warn_of_quarantine
from lakery_cloud.engine.sessions import Session
from lakery_cloud.engine.settings import EngineSettings
from lakery_cloud.engine.storage_data import Location
from lakery_cloud.engine.transport import Transport, missing
from lakery_cloud.errors import IntegrityError, LakeryCloudError, StorageUnavailable
from lakery_cloud.streams.budget import Lease
from lakery_cloud.streams.hashing import THREAD_THRESHOLD, Hasher, HashingAhead, new_hasher
from lakery_cloud.streams.pace import Pace
from lakery_cloud.streams.tasks import ordered_map

logger = logging.getLogger("lakery_cloud")

MAX_RESUMPTIONS = 5
"""Interruptions in a row, without a byte between them, before a read fails. Of slow responses also those with bytes."""
UNHASHED = 2 * 1024 * 1024
"""Bytes of one read that may wait to be hashed: enough to keep the hash busy, few enough for the processor's cache."""

SLOW = 150e6
"""Bytes a second below which a connection may limit the rate: over a network, S3 sends 50 to 100 MB/s on each (S3 User
Guide, "Performance guidelines"); within a machine, one carries 3 GB/s."""
IDLE = 0.5
"""Share of CPU time below which this process does not limit the rate itself."""
SAMPLE = 4 * 1024 * 1024
"""Bytes over which the rate of a connection is measured."""
FIRST_RANGES = 8
"""Concurrent ranges once a connection has shown to be slow: twice the first parts of a write, since that was a wait."""
MOST_RANGES = 16
"""Concurrent ranges that they may grow to."""
MIN_READERS = 3
"""Reads whose ranges fit into `max_buffered_bytes` when each has as many at a time as it may."""


async def read_whole(session: Session, location: Location) -> bytes:
    """The content in one piece; errors as for `read`."""
    if location.size is None or location.size > min(THREAD_THRESHOLD, session.settings.range_size):
        async with aclosing(read(session, location)) as chunks:
            return b"".join([chunk async for chunk in chunks])
    hasher, expected = _hasher_of(location, session.settings)
    content = await _at_once(session.transport, location, _Progress(location.address))
    if hasher is not None:
        hasher.update(content)
        _check_hash(location, hasher.hexdigest(), expected)
    return content


async def _at_once(transport: Transport, location: Location, progress: "_Progress") -> bytes:
    """Small content by one GET. What goes wrong with it is left to `_sequence`, whose generator costs as much as a read."""
    pieces, received = list[bytes](), 0
    try:
        async with transport.get(location.address) as body:
            check_size(location, body.info)
            if _is_wanted(body, 0, None):
                progress.pin(body.info)
                async for chunk in body.chunks:
                    pieces.append(chunk)
                    received += len(chunk)
                    if received > body.info.size:
                        raise IntegrityError(f"the store sent more bytes of {location.address} than requested")
    except KeyMissing as signal:
        if not progress.moves_on(location.address):
            raise await missing(transport, location.address) from signal
    except (VersionChanged, BodyInterrupted):
        pass
    if received != location.size:
        async with aclosing(_sequence(transport, location, progress, received)) as rest:
            pieces += [chunk async for chunk in rest]
    return b"".join(pieces)


async def read_range(session: Session, location: Location, start: int, stop: int) -> bytes:
    """Bytes `start` to `stop`, fewer at the end; only the whole content is verified. Errors are those of `read`."""
    transport = session.transport
    if location.size is None:
        info = await find_object(transport, location.address)
        if info is None:
            raise await missing(transport, location.address)
        location = location._replace(size=info.size)
    assert location.size is not None
    stop = min(stop, location.size)
    if start >= stop:
        return b""
    if (start, stop) == (0, location.size):
        return await read_whole(session, location)
    async with aclosing(_sequence(transport, location, _Progress(location.address), start, stop)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def read(session: Session, location: Location) -> AsyncGenerator[bytes]:
    """The content in chunks as they arrive.

    The last chunk waits until the hash is verified, so a consumer never gets wrong content in full without an error.

    Raises:
        NoStorageData: The object does not exist.
        IntegrityError: The content does not match the location, or the object changed while it was read.
        StorageUnavailable: The body broke off too often.
    """
    with session.read_budget.lease() as lease:
        plain_hasher, expected = _hasher_of(location, session.settings)
        hasher = _hashing_ahead(plain_hasher, location, lease) if plain_hasher is not None else None
        held_back = b""
        async with aclosing(_chunks(session, location)) as chunks:
            async for chunk in chunks:
                if hasher is not None:
                    await hasher.update(chunk)
                if held_back:
                    yield held_back
                held_back = chunk
        if hasher is not None:
            _check_hash(location, await hasher.hexdigest(), expected)
    if held_back:
        yield held_back


def _chunks(session: Session, location: Location) -> AsyncGenerator[bytes]:
    """The bytes from the store."""
    progress, settings = _Progress(location.address), session.settings
    if (location.size or 0) <= settings.range_size or settings.concurrent_ranges == 1:
        return _sequence(session.transport, location, progress)
    if settings.concurrent_ranges:
        return _ranges(session, location, progress)
    return _whole_or_ranges(session, location, progress)


class ConnectionRate:
    """The rate of a connection.

    Attributes:
        is_slow: Whether the last `SAMPLE` bytes arrived slowly although this process was idle.
    """

    def __init__(self) -> None:
        self.is_slow = False
        self._bytes = -1  # the first bytes include the latency of the request
        self._waited = self._computed = 0.0

    async def timed(self, chunk: Awaitable[bytes]) -> bytes:
        """The next bytes."""
        began, computed = time.perf_counter(), time.process_time()
        found = await chunk
        if self._bytes < 0:
            self._bytes = 0
            return found
        self._bytes += len(found)
        self._waited += time.perf_counter() - began
        self._computed += time.process_time() - computed
        if self._bytes >= SAMPLE:
            self.is_slow = self._bytes < SLOW * self._waited and self._computed < IDLE * self._waited
            self._bytes, self._waited, self._computed = 0, 0.0, 0.0
        return found


class _Progress:
    """Where a read finds its object and which version it is pinned to; all ranges of a read share it.

    Args:
        address: Bucket and key.

    Attributes:
        info: The store's description of the object, after the first response.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.version: str | None = None
        self.info: ObjectInfo | None = None

    def pin(self, info: ObjectInfo) -> None:
        """Pin the read to an object that the store has."""
        if self.info is None or self.info.address != info.address:
            warn_of_quarantine(info)
        self.address, self.version, self.info = info.address, info.version, info

    def moves_on(self, address: Address) -> bool:
        """Whether an object that is missing at an address may be in quarantine; the next request goes there."""
        if self.address == address:
            elsewhere = quarantined(address)
            if elsewhere is None:
                return False
            self.address, self.version = elsewhere, None
        return True


class UnverifiedRead:
    """The content of an object as the store sends it, with one GET that resumes after interruptions.

    Attributes:
        info: The store's description of the object, after the first chunk or the end.

    Raises:
        NoStorageData, IntegrityError, StorageUnavailable: As for `read`, while you iterate.
    """

    def __init__(self, transport: Transport, address: Address) -> None:
        self._transport, self._address = transport, address
        self.info: ObjectInfo | None = None

    async def whole(self, size: int) -> bytes:
        """The bytes of a small object, which must have this size."""
        progress = _Progress(self._address)
        content = await _at_once(self._transport, Location(self._address, None, size), progress)
        self.info = progress.info
        return content

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The bytes."""
        progress = _Progress(self._address)
        found = _sequence(self._transport, Location(self._address, None, None), progress)
        async with aclosing(found) as chunks:
            async for chunk in chunks:
                self.info = progress.info
                yield chunk
        self.info = progress.info


async def _sequence(
    transport: Transport, location: Location, progress: _Progress, start: int = 0, stop: int | None = None
) -> AsyncGenerator[bytes]:
    """Bytes `start` to `stop` with one GET, and one more after each interruption."""
    interruptions = slow = 0
    while True:
        address = progress.address
        try:
            async with transport.get(address, start=start, stop=stop, version=progress.version) as body:
                if not _is_wanted(body, start, stop):
                    raise StorageUnavailable(
                        f"the endpoint ignores ranges, so {location.address} can't be read in parts; set "
                        "concurrent_ranges to 1, and read it again if it broke off"
                    )
                check_size(location, body.info)
                if progress.version and not _is_same(body.info.version, progress.version):
                    raise VersionChanged(f"the store ignored the pinned version of {location.address}")
                progress.pin(body.info)
                stop = body.info.size if stop is None else stop
                async for chunk in body.chunks:
                    start += len(chunk)
                    interruptions = 0
                    if start > stop:
                        raise IntegrityError(f"the store sent more bytes of {location.address} than requested")
                    yield chunk
            if start == stop:
                return
            raise BodyInterrupted(f"the body ended {stop - start} bytes early")
        except KeyMissing as signal:
            if not progress.moves_on(address):
                raise await missing(transport, location.address) from signal
        except VersionChanged as signal:
            raise IntegrityError(
                f"the object at {location.address} changed while it was read; read it again from its start"
            ) from signal
        except BodyInterrupted as signal:
            interruptions += 1
            slow += isinstance(signal, BodyTooSlow)
            if slow > MAX_RESUMPTIONS:
                raise StorageUnavailable(
                    f"reading {location.address} was slower than min_rate {slow} times, at last at byte {start}: {signal}; "
                    "try again later, or set a smaller min_rate"
                ) from signal
            if interruptions > MAX_RESUMPTIONS:
                raise StorageUnavailable(
                    f"reading {location.address} broke off {interruptions} times at byte {start}; try again later"
                ) from signal
            logger.info("reading %s broke off at byte %d, resuming", location.address, start)


async def _ranges(session: Session, location: Location, progress: _Progress, start: int = 0) -> AsyncGenerator[bytes]:
    """Bytes from `start` on, in concurrent ranges."""
    transport, range_size, size = session.transport, session.settings.range_size, location.size
    assert size is not None
    if progress.version is None:
        info = await find_object(transport, location.address)
        if info is None:
            raise await missing(transport, location.address)
        check_size(location, info)
        progress.pin(info)

    async def read_range(first: int) -> list[bytes]:
        stop = min(first + range_size, size)
        async with aclosing(_sequence(transport, location, progress, first, stop)) as chunks:
            return [chunk async for chunk in chunks]

    parts = ordered_map(
        read_range,
        range(start, size, range_size),
        size_of=lambda _: range_size,
        budget=session.read_budget,
        limit=_pace(session.settings),
    )
    async with aclosing(parts) as ranges:
        async for chunks in ranges:
            for chunk in chunks:
                yield chunk
            del chunks  # it would keep the bytes until the next range arrives


def _pace(settings: EngineSettings) -> Pace:
    """How many ranges are read at a time: as many as the setting says, or as the link takes."""
    if settings.concurrent_ranges:
        return Pace(settings.concurrent_ranges, first=settings.concurrent_ranges)
    fitting = settings.max_buffered_bytes // MIN_READERS // settings.range_size
    return Pace(min(MOST_RANGES, max(FIRST_RANGES, fitting)), first=FIRST_RANGES)


async def _whole_or_ranges(session: Session, location: Location, progress: _Progress) -> AsyncGenerator[bytes]:
    """All bytes with one GET, or in ranges from where its connection turns out to limit the rate."""
    assert location.size is not None
    transport, link, range_size = session.transport, session.link, session.settings.range_size
    rate, position, may_change = ConnectionRate(), 0, True
    async with aclosing(_sequence(transport, location, progress)) as chunks:
        while chunk := await rate.timed(anext(chunks, b"")):
            position += len(chunk)
            yield chunk
            if (
                (rate.is_slow or link.is_slow)
                and may_change
                and location.size - position > 2 * range_size
                and not transport.reads.locked()  # a reader with an open body must not wait for another one
            ):
                if link.is_slow:
                    break
                if await _takes_ranges(transport, progress, position):
                    link.note_slow()
                    break
                may_change = False  # each further try would request the whole rest
        else:
            return
    logger.debug("reading %s in ranges from byte %d on: one connection is slow", location.address, position)
    async with aclosing(_ranges(session, location, progress, position)) as chunks:
        async for chunk in chunks:
            yield chunk


async def _takes_ranges(transport: Transport, progress: _Progress, start: int) -> bool:
    """Whether the endpoint supports ranges."""
    try:
        async with transport.get(progress.address, start=start, stop=start + 1, version=progress.version) as body:
            return _is_wanted(body, start, start + 1)
    except (Signal, LakeryCloudError):
        return False


def _hasher_of(location: Location, settings: EngineSettings) -> tuple[Hasher | None, str]:
    """A hash object and the hash to expect, if the content is to be verified."""
    if location.content_hash is None or not settings.verify:
        return None, ""
    algorithm, _, expected = location.content_hash.partition(":")
    return new_hasher(algorithm), expected


def _hashing_ahead(hasher: Hasher, location: Location, lease: Lease) -> HashingAhead:
    is_large = location.size is None or location.size > UNHASHED
    limit = UNHASHED if is_large and lease.try_acquire(UNHASHED) else THREAD_THRESHOLD
    return HashingAhead(hasher, limit=limit)


def _check_hash(location: Location, found: str, expected: str) -> None:
    if found != expected:
        raise IntegrityError(
            f"the content at {location.address} has the hash {found}, but {expected} was expected; "
            "it was damaged in the store or on the network"
        )


def _is_wanted(body: Body, start: int, stop: int | None) -> bool:
    """Whether a store sent the requested range. Stores without ranges send the whole object."""
    if body.start is None:
        return start == 0 and stop in (None, body.info.size)
    return body.start == start


def _is_same(found: str | None, pinned: str) -> bool:
    """Whether two ETags or generations name one version; ETags that a proxy made weak do (RFC 9110, section 8.8.3.2)."""
    return found is not None and found.removeprefix("W/") == pinned.removeprefix("W/")


def check_size(location: Location, info: ObjectInfo) -> None:
    """Refuse an object with another size than its location says.

    Raises:
        IntegrityError: The size differs.
    """
    if location.size is not None and info.size != location.size:
        raise IntegrityError(
            f"the object at {location.address} has {info.size} bytes, but {location.size} were expected"
        )
