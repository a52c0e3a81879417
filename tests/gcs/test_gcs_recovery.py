"""What `GCSStorage` does when requests to Cloud Storage fail."""

import asyncio
from typing import Any

import pytest

from lakery_cloud import IntegrityError, StorageUnavailable
from lakery_cloud.testing import ScriptedProxy, StrictGCS, content, digest_of, tap
from lakery_cloud.testing.faults import Delay
from tests.gcs.exchanges import is_begin, is_copy, is_delete, is_last_part, is_part, is_put, is_read
from tests.helpers import write, write_stream
from tests.rigs.gcs import GCSRig

KiB = 1024
MiB = 1024**2


pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.mark.case("32")
async def test_shortfall_of_a_part_is_sent_again(strict_rig: GCSRig, double: StrictGCS) -> None:
    data = content(MiB * 4 + 1)
    double.shortfalls += [MiB, 256 * KiB, 0, 2 * MiB, MiB, 256 * KiB, 0, 1]
    async with strict_rig.storage(part_size=2 * MiB) as storage:
        assert await storage.read_data(await write_stream(storage, data)) == data
    assert not double.shortfalls
    await strict_rig.check_nothing_temporary()


@pytest.mark.case("32")
async def test_upload_that_makes_no_progress_is_given_up(strict_rig: GCSRig, double: StrictGCS) -> None:
    double.shortfalls += [MiB] * 3
    async with strict_rig.storage(part_size=MiB) as storage:
        with pytest.raises(StorageUnavailable, match="stays at byte 0"):
            await write_stream(storage, content(2 * MiB))
    assert not double.shortfalls
    await strict_rig.check_nothing_left()


@pytest.mark.case("24")
@pytest.mark.parametrize("matches", [is_put, is_begin, is_part, is_last_part, is_copy, is_read, is_delete])
async def test_throttling_is_retried(strict_rig: GCSRig, proxy: ScriptedProxy, matches: Any) -> None:
    scripts = [proxy.answer(matches, status=429), proxy.answer(matches, status=503)]
    data = content(strict_rig.part_size * 3)
    async with strict_rig.storage() as storage:
        assert await storage.read_data(await write(storage, b"small")) == b"small"
        assert await storage.read_data(await write_stream(storage, data)) == data
    assert [script.fired for script in scripts] == [1, 1]
    await strict_rig.check_nothing_temporary()


@pytest.mark.case("24")
@pytest.mark.parametrize("matches", [is_put, is_begin, is_part, is_last_part, is_copy])
async def test_throttling_without_end_is_storage_unavailable(
    strict_rig: GCSRig, proxy: ScriptedProxy, matches: Any
) -> None:
    script = proxy.answer(matches, status=503, times=100)
    async with strict_rig.storage(max_attempts=2) as storage:
        with pytest.raises(StorageUnavailable, match="503"):
            await write(storage, b"small")
            await write_stream(storage, content(strict_rig.part_size * 3))
    assert script.fired == 2
    await strict_rig.check_nothing_temporary()


@pytest.mark.case("26")
@pytest.mark.parametrize("matches", [is_put, is_copy])
async def test_conflict_with_another_writer_is_tried_again(
    strict_rig: GCSRig, proxy: ScriptedProxy, matches: Any
) -> None:
    script = proxy.answer(matches, status=409)
    data = content(strict_rig.part_size * (2 if matches is is_copy else 1))
    async with strict_rig.storage() as storage:
        assert await storage.read_data(await write_stream(storage, data)) == data
    assert script.fired == 1


@pytest.mark.case("14")
@pytest.mark.parametrize("matches", [is_put, is_begin, is_part, is_last_part, is_copy, is_delete])
async def test_success_whose_answer_was_lost_is_success(strict_rig: GCSRig, proxy: ScriptedProxy, matches: Any) -> None:
    script = proxy.swallow(matches)
    data = content(strict_rig.part_size * 3)
    async with strict_rig.storage() as storage:
        assert await storage.read_data(await write(storage, b"small")) == b"small"
        assert await storage.read_data(await write_stream(storage, data)) == data
    assert script.fired == 1
    assert [key for key in await strict_rig.keys() if ".tmp" in key] == []


@pytest.mark.parametrize("large", [False, True])
async def test_part_whose_answer_was_lost_is_not_sent_twice(
    strict_rig: GCSRig, proxy: ScriptedProxy, large: bool
) -> None:
    size = strict_rig.part_size * (8 if large else 1)
    proxy.answer(is_part, status=500)
    async with strict_rig.storage(part_size=size) as storage:
        await write_stream(storage, content(size * 2))
    asked = [e.headers["content-range"] for e in proxy.exchanges if e.method == "PUT"]
    assert asked == [
        f"bytes 0-{size - 1}/*",
        "bytes */*",
        f"bytes 0-{size - 1}/*",
        f"bytes {size}-{2 * size - 1}/{2 * size}",
    ]


async def test_store_that_lost_bytes_is_unavailable(strict_rig: GCSRig, proxy: ScriptedProxy) -> None:
    # 308 without a range: it has nothing.
    script = proxy.answer(lambda e: e.headers.get("content-range", "").startswith("bytes 524288-"), status=308)
    async with strict_rig.storage() as storage:
        with pytest.raises(StorageUnavailable, match="the store has 0 bytes"):
            await write_stream(storage, content(strict_rig.part_size * 4))
    assert script.fired == 1
    await strict_rig.check_nothing_left()


@pytest.mark.case("32")
@pytest.mark.parametrize("status", [404, 410])
async def test_session_that_is_gone_is_unavailable(strict_rig: GCSRig, proxy: ScriptedProxy, status: int) -> None:
    proxy.answer(is_part, status=status)
    async with strict_rig.storage() as storage:
        with pytest.raises(StorageUnavailable, match="write"):
            await write_stream(storage, content(strict_rig.part_size * 3))
    await strict_rig.check_nothing_left()


async def test_session_that_somebody_else_cancels_is_unavailable(strict_rig: GCSRig, double: StrictGCS) -> None:
    async def cancel() -> None:
        for session in double.sessions.values():
            session.is_cancelled = True

    storage = strict_rig.storage()
    tap(storage).before("upload_part", cancel, nth=2)
    async with storage:
        with pytest.raises(StorageUnavailable):
            await write_stream(storage, content(strict_rig.part_size * 3))
    await strict_rig.check_nothing_left()


@pytest.mark.case("32")
async def test_rewrite_goes_in_several_calls(strict_rig: GCSRig, double: StrictGCS) -> None:
    data = content(strict_rig.part_size * 4)
    double.bytes_per_rewrite = strict_rig.part_size
    double.received.clear()
    try:
        async with strict_rig.storage(storage_class="NEARLINE") as storage:
            assert await storage.read_data(await write_stream(storage, data)) == data
    finally:
        double.bytes_per_rewrite = 10**9
    assert len([line for line in double.received if "/rewriteTo/" in line]) == 4
    await strict_rig.check_nothing_temporary()


async def test_source_replaced_before_the_copy_is_an_integrity_error(strict_rig: GCSRig) -> None:
    storage = strict_rig.storage()

    async def replace() -> None:
        (key,) = await strict_rig.keys()
        await strict_rig.put(key, b"something else")

    tap(storage).before("copy", replace)
    async with storage:
        with pytest.raises(IntegrityError, match="another client changed"):
            await write_stream(storage, content(strict_rig.part_size * 2))
    await strict_rig.check_nothing_left()


async def test_copy_that_somebody_else_made_first_is_success(strict_rig: GCSRig) -> None:
    data = content(strict_rig.part_size * 2)
    storage = strict_rig.storage()

    async def be_first() -> None:
        await strict_rig.put(digest_of(data)["content_hash"], data)

    tap(storage).before("copy", be_first)
    async with storage:
        assert await storage.read_data(await write_stream(storage, data)) == data
    await strict_rig.check_nothing_temporary()


@pytest.mark.parametrize("parts", [0, 3])
async def test_corrupted_bytes_are_refused(strict_rig: GCSRig, double: StrictGCS, parts: int) -> None:
    double.damage = lambda data: data[:-1] + bytes([data[-1] ^ 1])
    async with strict_rig.storage() as storage:
        with pytest.raises(IntegrityError, match="CRC32C"):
            if parts:
                await write_stream(storage, content(strict_rig.part_size * parts))
            else:
                await write(storage, b"data")
    assert double.damage is None
    await strict_rig.check_nothing_left()


async def test_stream_cancelled_while_the_last_part_travels_leaves_nothing(
    strict_rig: GCSRig, proxy: ScriptedProxy
) -> None:
    last_part = proxy.script(is_last_part, Delay(0))
    async with strict_rig.storage() as storage:
        task = asyncio.create_task(write_stream(storage, content(strict_rig.part_size * 2)))
        await last_part.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await strict_rig.check_nothing_left()


@pytest.mark.case("27")
async def test_body_that_breaks_off_is_resumed(strict_rig: GCSRig, proxy: ScriptedProxy) -> None:
    data = content(1_000_000)
    async with strict_rig.storage() as storage:
        storage_data = await write(storage, data)
        proxy.cut(is_read, after=300_000)
        assert await storage.read_data(storage_data) == data
    reads = [exchange for exchange in proxy.exchanges if is_read(exchange)]
    assert len(reads) == 2
    assert "generation=" in reads[1].target
    assert reads[1].headers["range"].startswith("bytes=")
