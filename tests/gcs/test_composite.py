"""Composite uploads: parts side by side, composed in the store; whatever happens, none of them is left."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from lakery_cloud import IntegrityError, StorageUnavailable
from lakery_cloud.emulators import FakeGCS
from lakery_cloud.http import session
from lakery_cloud.providers.gcs import uploads as gcs_uploads
from lakery_cloud.testing import (
    Exchange,
    ScriptedProxy,
    content,
    digest_of,
    tap,
)
from tests.helpers import scripted_proxy_before, write_stream
from tests.rigs.gcs import GCSRig

KiB = 1024
PART = 256 * KiB


pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.fixture(params=["STANDARD", "NEARLINE"])
async def composite_rig(fake_gcs: FakeGCS, request: pytest.FixtureRequest) -> AsyncIterator[GCSRig]:
    """Parts are composed to the content key, or to a temporary object if content has another storage class."""
    settings = {"composite_uploads": "true", "storage_class": request.param}
    async with GCSRig("FakeGCS", fake_gcs.endpoint_url, **settings) as rig:
        yield rig


def is_direct(rig: GCSRig) -> bool:
    return rig.settings["storage_class"] == "STANDARD"


@pytest.fixture
async def proxy(composite_rig: GCSRig) -> AsyncIterator[ScriptedProxy]:
    async with scripted_proxy_before(composite_rig) as proxy:
        yield proxy


def is_part(exchange: Exchange) -> bool:
    return "uploadType=multipart" in exchange.target


def is_compose(exchange: Exchange) -> bool:
    return exchange.target.partition("?")[0].endswith("/compose")


def is_delete(exchange: Exchange) -> bool:
    return exchange.method == "DELETE"


async def test_parts_travel_side_by_side_and_are_composed_and_deleted(
    composite_rig: GCSRig, proxy: ScriptedProxy
) -> None:
    data = content(PART * 5 + 1)
    async with composite_rig.storage(max_concurrent_parts=3) as storage:
        wire = tap(storage)
        first, second = wire.hold("upload_part", nth=1), wire.hold("upload_part", nth=3)
        writing = asyncio.create_task(write_stream(storage, data))
        await first.reached.wait()
        await second.reached.wait()  # while the first is on its way
        first.release()
        second.release()
        assert await storage.read_data(await writing) == data
    assert len([exchange for exchange in proxy.exchanges if is_part(exchange)]) == 6
    assert len([exchange for exchange in proxy.exchanges if is_compose(exchange)]) == 1
    assert len([exchange for exchange in proxy.exchanges if is_delete(exchange)]) == 6 + (not is_direct(composite_rig))
    await composite_rig.check_nothing_temporary()


async def test_content_has_its_attributes(composite_rig: GCSRig) -> None:
    data, tags = content(PART * 3 + 1), {"tag": "value"}
    async with composite_rig.storage() as storage:
        found = await storage.stat(await write_stream(storage, data, tags))
    assert found.tags == tags
    assert found.info.metadata["content-hash"] == digest_of(data)["content_hash"]
    assert (found.info.content_type, found.info.size) == ("text/plain", len(data))


async def test_content_is_composed_at_its_key(composite_rig: GCSRig, proxy: ScriptedProxy) -> None:
    async with composite_rig.storage() as storage:
        storage_data = await write_stream(storage, content(PART * 3))
    (compose,) = [exchange for exchange in proxy.exchanges if is_compose(exchange)]
    assert (f"/o/{storage_data['blob']}/compose?" in compose.target) == is_direct(composite_rig)
    assert "ifGenerationMatch=0" in compose.target
    assert any("/rewriteTo/" in exchange.target for exchange in proxy.exchanges) != is_direct(composite_rig)


async def test_more_parts_than_one_request_composes(composite_rig: GCSRig, proxy: ScriptedProxy) -> None:
    data = content(PART * 70)
    async with composite_rig.storage() as storage:
        assert await storage.read_data(await write_stream(storage, data)) == data
    assert len([exchange for exchange in proxy.exchanges if is_compose(exchange)]) == 3  # 32 + 31 + 7
    await composite_rig.check_nothing_temporary()


@pytest.mark.case("14")
@pytest.mark.parametrize("matches", [is_part, is_compose, is_delete])
async def test_success_whose_answer_was_lost_is_success(
    composite_rig: GCSRig, proxy: ScriptedProxy, matches: Callable[[Exchange], bool]
) -> None:
    data = content(PART * 40)
    script = proxy.swallow(matches, times=2)
    async with composite_rig.storage() as storage:
        assert await storage.read_data(await write_stream(storage, data)) == data
    assert script.fired == 2
    await composite_rig.check_nothing_temporary()


async def test_part_that_disappears_is_unavailable_and_leaves_nothing(composite_rig: GCSRig) -> None:
    async with composite_rig.storage() as storage:
        wire = tap(storage)

        async def expire() -> None:
            (key,) = [key for key in await composite_rig.keys() if key.endswith(".000002")]
            await composite_rig.delete(key)

        wire.before("complete_upload", expire)
        with pytest.raises(StorageUnavailable):
            await write_stream(storage, content(PART * 3))
    await composite_rig.check_nothing_left()


async def test_conflict_with_an_attempt_of_ours_is_no_error_of_the_library(
    composite_rig: GCSRig, proxy: ScriptedProxy
) -> None:
    script = proxy.answer(is_part, status=409)
    async with composite_rig.storage() as storage:
        with pytest.raises(StorageUnavailable, match="write again"):
            await write_stream(storage, content(PART * 3))
    assert script.fired == 1
    await composite_rig.check_nothing_left()


@pytest.mark.parametrize("matches", [is_part, is_compose])
async def test_store_that_stays_unavailable_leaves_nothing(
    composite_rig: GCSRig, proxy: ScriptedProxy, matches: Callable[[Exchange], bool]
) -> None:
    proxy.answer(matches, status=503, times=100)
    async with composite_rig.storage() as storage:
        with pytest.raises(StorageUnavailable):
            await write_stream(storage, content(PART * 5))
    await composite_rig.check_nothing_left()


async def test_parts_that_can_not_be_deleted_do_not_fail_the_write(
    composite_rig: GCSRig, proxy: ScriptedProxy, caplog: pytest.LogCaptureFixture
) -> None:
    data = content(PART * 3)
    script = proxy.answer(lambda exchange: is_delete(exchange) and ".00000" in exchange.target, status=403, times=100)
    async with composite_rig.storage() as storage:
        assert await storage.read_data(await write_stream(storage, data)) == data
    assert script.fired >= 1
    said = "could not clean up the upload" if is_direct(composite_rig) else "could not delete the parts"
    assert said in caplog.text
    assert all(key.startswith(".tmp/") or "/" not in key for key in await composite_rig.keys())


async def test_part_that_was_changed_by_somebody_else_is_an_error(composite_rig: GCSRig) -> None:
    async with composite_rig.storage() as storage:
        wire = tap(storage)

        async def change() -> None:
            (key,) = [key for key in await composite_rig.keys() if key.endswith(".000002")]
            await composite_rig.put(key, content(PART, seed=7))

        wire.before("complete_upload", change)
        with pytest.raises((IntegrityError, StorageUnavailable)):
            await write_stream(storage, content(PART * 3))
    await composite_rig.check_nothing_left()


@pytest.mark.parametrize("operation", ["upload_part", "complete_upload", "copy", "delete"])
async def test_cancelled_at_any_step_leaves_nothing(composite_rig: GCSRig, operation: str) -> None:
    async with composite_rig.storage() as storage:
        hold = tap(storage).hold(operation, nth=2 if operation == "upload_part" else 1, moment="after")
        writing = asyncio.create_task(write_stream(storage, content(PART * 6)))
        await hold.reached.wait()
        writing.cancel()
        hold.release()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await composite_rig.check_nothing_temporary()


@pytest.mark.case("17")
async def test_ten_cancellations_at_random_moments_leave_nothing(
    composite_rig: GCSRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs_uploads, "MAX_SOURCES", 4)
    moments = random.Random(5)
    async with composite_rig.storage() as storage:
        await write_stream(storage, content(PART * 9, seed=99))
        for number in range(10):
            writing = asyncio.create_task(write_stream(storage, content(PART * 9, seed=number)))
            await asyncio.sleep(moments.uniform(0, 0.15))
            writing.cancel()
            await asyncio.wait([writing])
            await composite_rig.check_nothing_temporary()


async def test_part_of_an_aborted_upload_is_never_sent_to_its_end(
    composite_rig: GCSRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Over a session another task writes the body. No server can decide which of the two comes first, so the test does.
    at_the_end, may_end, sent = asyncio.Event(), asyncio.Event(), []
    write_body = session._Body.write

    class HeldWriter:
        def __init__(self, writer: Any, size: int) -> None:
            self.writer, self.left = writer, size

        async def write(self, piece: memoryview) -> None:
            self.left -= len(piece)
            sent.append(not self.left)
            await self.writer.write(piece)
            if self.left < PART:
                at_the_end.set()
                await may_end.wait()

    async def write_held(body: Any, writer: Any) -> None:
        await write_body(body, HeldWriter(writer, body.size) if body.size > PART else writer)

    abort = gcs_uploads.CompositeUpload.abort

    async def abort_while_the_end_is_written(upload: gcs_uploads.CompositeUpload) -> None:
        may_end.set()  # the writer comes before the cancellation
        await abort(upload)

    monkeypatch.setattr(session._Body, "write", write_held)
    monkeypatch.setattr(gcs_uploads.CompositeUpload, "abort", abort_while_the_end_is_written)
    async with composite_rig.storage(fast_lane=False) as storage:
        writing = asyncio.create_task(write_stream(storage, content(PART * 2)))
        await at_the_end.wait()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
    assert sent
    assert not any(sent)
    await composite_rig.check_nothing_left()
