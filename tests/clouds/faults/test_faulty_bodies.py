"""Bodies that break off, stall, are not taken, or change on the way: the same for all clouds, by the fault proxy."""

import time
from collections import Counter
from contextlib import suppress
from itertools import product
from typing import Any

import pytest

from lakery_cloud import IntegrityError, LakeryCloudError, NoStorageData, StorageUnavailable
from lakery_cloud.engine import reader
from lakery_cloud.providers.azure import sdk as azure
from lakery_cloud.testing import Exchange, FaultProxy, Rule, content, digest_of
from lakery_cloud.testing.faults import CutAnswer, Delay, Fault, FlipAnswerByte, FlipRequestByte, Stall, StallRequest
from tests.clouds.faults.works import (
    CHECK_NO_BODIES,
    WORKS,
    Work,
    on_servers,
    read,
    received_before,
    same_request,
    steps_of,
    storage_of,
    sweep_all,
    there,
    with_clients,
)
from tests.helpers import name_of, write, write_stream
from tests.rigs.base import CloudRig, MiB

# Azure's SDK doesn't close the connection of an interrupted body; the garbage collector warns of it.
pytestmark = [
    pytest.mark.usefixtures("short_pauses"),
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <function Connection.__del__:pytest.PytestUnraisableExceptionWarning"
    ),
]

PATIENT_ATTEMPTS = 6
"""For a busy machine, where another response may come too late as well."""
LARGE = 32 * MiB
"""More than buffers on the way hold."""


async def impatient_storage(rig: CloudRig, *works: Work, **options: Any) -> Any:
    """A storage with a short read time-out, which is still longer than each of the works took just now."""
    longest = 0.0
    async with storage_of(rig, **options) as storage:
        await storage.find(digest_of(b"so that it is connected"))
        for work in works:
            data = await work.prepare(rig, seed=1000)
            started = time.monotonic()
            await work.do(storage, data)
            longest = max(longest, time.monotonic() - started)
    return storage_of(rig, **{**options, "read_timeout": max(0.3, 2 * longest), "max_attempts": PATIENT_ATTEMPTS})


# Bodies that break off, stall or change


@pytest.mark.case("27")
@on_servers("place, ranges", [*product([0.5, 0, 1, -1], [1, 3])], few=2)
async def test_body_that_breaks_off_is_read_on_from_the_same_version(
    cloud_rig: CloudRig, proxy: FaultProxy, place: float, ranges: int
) -> None:
    data = content(600_000)
    await cloud_rig.put(digest_of(data)["content_hash"], data)
    offset = int(place) if place != 0.5 else len(data) // ranges // 2
    proxy.arm(Rule(CutAnswer(offset), "get"))
    async with storage_of(cloud_rig, concurrent_ranges=ranges, range_size=200_000) as storage:
        await read(storage, data)
    reads = proxy.exchanges_of("get")
    (cut,) = [exchange for exchange in reads if exchange.fault]
    again = [exchange for exchange in reads[reads.index(cut) + 1 :] if last_of(exchange, data) == last_of(cut, data)]
    assert again, "it was not read on"
    for exchange in again:  # from where it broke, or anew if nothing of it was given out
        assert first_of(cut) <= first_of(exchange) <= first_of(cut) + cut.received_bytes
        assert is_pinned(exchange) or first_of(exchange) == first_of(cut)


@pytest.mark.case("27")
@with_clients("ranges", [1, 3])
async def test_body_that_breaks_off_each_time_is_unavailable_and_never_short(
    cloud_rig: CloudRig, proxy: FaultProxy, ranges: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MAX_RESUMPTIONS", 2)  # Azure's SDK waits for a second before it reads again
    data = content(600_000)
    await cloud_rig.put(digest_of(data)["content_hash"], data)
    proxy.arm(Rule(CutAnswer(0), "get", times=None))
    async with storage_of(cloud_rig, concurrent_ranges=ranges, range_size=200_000) as storage:
        assert await received_before(storage, data, StorageUnavailable) == b""
    # Azure's SDK reads an interrupted body 3 times before it raises.
    most = (reader.MAX_RESUMPTIONS + 1) * 3
    assert 1 < max(Counter(map(same_request, proxy.exchanges_of("get"))).values()) <= most


@pytest.mark.case("28")
@with_clients("after, ranges", [*product([100_000, 0], [1, 3])])
async def test_body_that_stalls_times_out_and_is_read_on(
    cloud_rig: CloudRig, proxy: FaultProxy, after: int, ranges: int
) -> None:
    data = content(600_000)
    await cloud_rig.put(digest_of(data)["content_hash"], data)
    options = {"concurrent_ranges": ranges, "range_size": 200_000}
    async with await impatient_storage(cloud_rig, *WORKS, **options) as storage:
        proxy.arm(Rule(Stall(after), "get"))
        await read(storage, data)


@pytest.mark.case("28")
@with_clients("fault", [Delay(None), Stall(0)], ids=name_of)
async def test_request_that_is_never_answered_times_out_and_is_sent_again(
    cloud_rig: CloudRig, proxy: FaultProxy, fault: Fault
) -> None:
    async with await impatient_storage(cloud_rig, *WORKS) as storage:
        for seed, step in enumerate(await steps_of(cloud_rig, proxy), start=1):
            if step.is_answered or isinstance(fault, Delay):
                data = await step.work.prepare(cloud_rig, seed=seed)
                proxy.arm(Rule(fault, step.operation))
                await step.work.do(storage, data)
                assert await there(cloud_rig, data) == data, step


@pytest.mark.case("28")
@with_clients("work", [write, write_stream], few=2, ids=lambda work: work.__name__)
async def test_body_that_is_not_taken_times_out_and_is_sent_again(
    cloud_rig: CloudRig, proxy: FaultProxy, work: Any
) -> None:
    data = content(LARGE)
    parts = LARGE if work is write else LARGE - cloud_rig.part_size
    sent = [step.operation for step in await steps_of(cloud_rig, proxy) if step.work.do is work and step.has_body]
    operations = [operation for operation in sent if operation in ("put", "upload_part")]
    if not operations:
        pytest.skip("to ask it for the status of an upload ends the upload")
    async with await impatient_storage(cloud_rig, Work("", work, 0, LARGE), part_size=parts) as storage:
        proxy.arm(Rule(StallRequest(1), operations[0]))
        await work(storage, data)
    assert await there(cloud_rig, data) == data
    await cloud_rig.check_nothing_temporary()


@pytest.mark.case("29")
@on_servers("is_deleted, ranges", [*product([False, True], [1, 2])])
async def test_object_that_changes_while_it_is_read_is_an_error_and_never_a_mixture(
    cloud_rig: CloudRig, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, ranges: int, is_deleted: bool
) -> None:
    monkeypatch.setattr(azure, "MAX_READ", 400_000)  # the SDK buffers that many bytes
    data, other = content(900_000), content(1)
    key = digest_of(data)["content_hash"]
    await cloud_rig.put(key, data)
    await cloud_rig.put(digest_of(other)["content_hash"], other)
    async with storage_of(cloud_rig, concurrent_ranges=ranges, range_size=200_000) as storage:
        await storage.read_data(storage.storage_data_of(digest_of(other)))  # the first read of a client is another one
        cut = proxy.arm(Rule(CutAnswer(300_000 if ranges == 1 else 150_000), "get"))

        async def change() -> None:
            await cut.wait()
            await (cloud_rig.delete(key) if is_deleted else cloud_rig.put(key, data[::-1]))

        received = await received_before(storage, data, (IntegrityError, NoStorageData), after_first=change)
    assert received == data[: len(received)] != data


def first_of(exchange: Exchange) -> int:
    """The first byte that a read asks for."""
    return int(_range(exchange)[0])


def last_of(exchange: Exchange, data: bytes) -> int:
    """The last byte of the data that a read asks for."""
    return min(int(_range(exchange)[1] or len(data)), len(data) - 1)


def _range(exchange: Exchange) -> tuple[str, str]:
    header = exchange.headers.get("x-ms-range") or exchange.headers.get("range", "bytes=0-")
    first, _, last = header.removeprefix("bytes=").partition("-")
    return first, last


def is_pinned(exchange: Exchange) -> bool:
    """Whether a read is of one version alone."""
    return "if-match" in exchange.headers or "ifGenerationMatch=" in exchange.target


# Bytes that change on the way


@pytest.mark.case("30")
@on_servers("work", [write, write_stream], few=2, ids=lambda work: work.__name__)
async def test_bytes_that_change_on_the_way_to_the_store_are_never_content(
    cloud_rig: CloudRig, proxy: FaultProxy, work: Any
) -> None:
    data = content(100_000 if work is write else cloud_rig.part_size + 1, seed=1)
    sent = {step.operation for step in await steps_of(cloud_rig, proxy) if step.work.do is work}
    operation = "put" if "put" in sent else "upload_part"
    proxy.arm(Rule(FlipRequestByte(50_000), operation))
    async with storage_of(cloud_rig) as storage:
        try:
            await work(storage, data)
        except IntegrityError:
            assert await there(cloud_rig, data) is None
            outcome = "refused"
        else:
            outcome = "stored wrong"
            await received_before(storage, data, IntegrityError)
    assert outcome == ("stored wrong" if cloud_rig.name in CHECK_NO_BODIES and work is write else "refused")
    await cloud_rig.check_nothing_temporary()


@pytest.mark.case("30")
@with_clients("offset, ranges", [*product([100_000, 0, -1], [1, 3])])
async def test_bytes_that_change_on_the_way_to_a_reader_are_an_integrity_error(
    cloud_rig: CloudRig, proxy: FaultProxy, offset: int, ranges: int
) -> None:
    data = content(600_000)
    await cloud_rig.put(digest_of(data)["content_hash"], data)
    proxy.arm(Rule(FlipAnswerByte(offset), "get", times=2))
    async with storage_of(cloud_rig, concurrent_ranges=ranges, range_size=200_000) as storage:
        for _ in range(1 if ranges > 1 else 2):
            assert len(await received_before(storage, data, IntegrityError)) < len(data)
        await read(storage, data)


@pytest.mark.case("30")
@on_servers("seed", range(10))
async def test_damaged_answers_never_make_a_wrong_result(cloud_rig: CloudRig, proxy: FaultProxy, seed: int) -> None:
    async with storage_of(cloud_rig) as storage:
        steps = [step for step in await steps_of(cloud_rig, proxy) if step.is_answered and step.operation != "get"]
        for number, step in enumerate(steps, start=1):
            data = await step.work.prepare(cloud_rig, seed=1000 * seed + number)
            length = 0
            proxy.arm(Rule(FlipAnswerByte(), step.operation))
            with suppress(LakeryCloudError):
                await step.work.do(storage, data)
                length = len(data)
            assert await there(cloud_rig, data) in ((data,) if length else (None, data)), step
            await sweep_all(storage)
