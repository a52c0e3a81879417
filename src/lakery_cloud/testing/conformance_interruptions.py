"""Conformance cases of writes that end early: cancellation, errors of the source, wrong digests, slow stores."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from lakery_cloud.digest import DigestingStream
from lakery_cloud.errors import IntegrityError
from lakery_cloud.storage import SerializedDataStream
from lakery_cloud.testing.calls import write_stream
from lakery_cloud.testing.content import CONTENT_TYPE, chunked, content, digest_of, stream_of
from lakery_cloud.testing.rig import Rig
from lakery_cloud.testing.wire import Hold, tap

case = pytest.mark.case


async def cancel_at(hold: Hold, writing: Coroutine[Any, Any, Any]) -> None:
    """Cancel a write while it waits at the hold, then release the hold."""
    task = asyncio.create_task(writing)
    await hold.reached_by(task)
    task.cancel()
    hold.release()
    with pytest.raises(asyncio.CancelledError):
        await task


class InterruptionCases:
    """What a write leaves behind when it fails or is cancelled."""

    @case("16")
    async def test_cancelled_before_the_first_request_sends_none(self, rig: Rig) -> None:
        # A full part is not sent yet: if the stream ends there, a single put is enough.
        for begun in (0, 1, rig.part_size):
            hold = Hold()

            async def source(data: bytes = content(begun), hold: Hold = hold) -> AsyncGenerator[bytes]:
                yield data
                await hold.wait()

            stream = SerializedDataStream(data_stream=source(), content_type=CONTENT_TYPE, content_encoding=None)
            storage = rig.storage()
            wire = tap(storage)
            async with storage:
                await cancel_at(hold, write_stream(storage, DigestingStream(stream)))
            assert wire.log == []
        await rig.check_nothing_left()

    @case("17")
    @pytest.mark.parametrize("moment", ["before", "after"])
    @pytest.mark.parametrize(
        ("operation", "nth"), [("begin_upload", 1), ("upload_part", 1), ("upload_part", 3), ("complete_upload", 1)]
    )
    async def test_cancelled_stream_leaves_nothing(self, rig: Rig, operation: str, nth: int, moment: str) -> None:
        data = content(rig.part_size * 4)
        storage = rig.storage(max_concurrent_parts=2)
        wire = tap(storage)
        hold = wire.hold(operation, nth=nth, moment=moment)
        async with storage:
            await cancel_at(hold, write_stream(storage, stream_of([data])))
        await rig.check_nothing_left()

    @case("17")
    async def test_cancelled_before_the_copy_leaves_nothing(self, rig: Rig) -> None:
        storage = rig.storage()
        hold = tap(storage).hold("copy")
        async with storage:
            await cancel_at(hold, write_stream(storage, stream_of([content(rig.part_size * 2)])))
        await rig.check_nothing_left()

    @case("17")
    @pytest.mark.parametrize("operation", ["copy", "delete"])
    async def test_cancelled_after_the_copy_leaves_the_content_alone(self, rig: Rig, operation: str) -> None:
        data = content(rig.part_size * 2)
        storage = rig.storage()
        hold = tap(storage).hold(operation, moment="after" if operation == "copy" else "before")
        async with storage:
            await cancel_at(hold, write_stream(storage, stream_of([data])))
        found = await rig.get(digest_of(data)["content_hash"])
        assert found is not None
        assert found.data == data
        await rig.check_nothing_temporary()

    @case("17")
    async def test_cancelled_again_during_the_clean_up_leaves_nothing(self, rig: Rig) -> None:
        storage = rig.storage()
        wire = tap(storage)
        part, abort = wire.hold("upload_part", nth=2), wire.hold("abort_upload")
        async with storage:
            task = asyncio.create_task(write_stream(storage, stream_of([content(rig.part_size * 3)])))
            await part.reached_by(task)
            task.cancel()
            await abort.reached_by(task)
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0)
            abort.release()
            with pytest.raises(asyncio.CancelledError):
                await task
        await rig.check_nothing_left()

    @case("17")
    async def test_cancelled_at_random_moments_leaves_nothing_partial(self, rig: Rig) -> None:
        data = content(rig.part_size * 3 + 1)
        storage = rig.storage(max_concurrent_parts=2)
        chance = random.Random(17)
        steps: list[int] = []
        async with storage:
            for _ in range(10):
                task = asyncio.create_task(write_stream(storage, stream_of(chunked(data, [rig.part_size // 3]))))
                steps.append(chance.randrange(1, 200))
                for _ in range(steps[-1]):
                    await asyncio.sleep(0 if chance.random() < 0.9 else 0.001)
                task.cancel()
                with suppress(asyncio.CancelledError):  # a write that has ended was not cancelled
                    await task
                await rig.check_nothing_temporary()
                found = await rig.get(digest_of(data)["content_hash"])
                assert found is None or found.data == data, steps
                await rig.delete(digest_of(data)["content_hash"])

    @case("18")
    @pytest.mark.parametrize("parts", [0, 1, 3])
    async def test_error_of_the_source_comes_out_and_nothing_is_left(self, rig: Rig, parts: int) -> None:
        failure = ValueError("the source broke")
        async with rig.storage() as storage:
            with pytest.raises(ValueError, match="the source broke") as raised:
                await write_stream(storage, stream_of([content(rig.part_size * parts), b"more"], failure=failure))
        assert raised.value is failure
        await rig.check_nothing_left()

    @case("19")
    async def test_blob_that_is_not_what_its_digest_says_is_refused(self, rig: Rig) -> None:
        async with rig.storage() as storage:
            with pytest.raises(IntegrityError, match="5 bytes"):
                digest: Any = {**digest_of(b"12345"), "content_size": 6}
                await storage.write_data(b"12345", digest, {})
        await rig.check_nothing_left()

    @case("19")
    async def test_blob_with_another_hash_is_refused(self, rig: Rig) -> None:
        async with rig.storage() as storage:
            for algorithm in ("sha256", "sha512"):
                with pytest.raises(IntegrityError):
                    await storage.write_data(b"12345", digest_of(b"54321", algorithm=algorithm), {})
        await rig.check_nothing_left()

    @case("19")
    @pytest.mark.parametrize("parts", [0, 2])
    @pytest.mark.parametrize("lie", [{"content_size": 1}, {"content_size": 10**9}, {"content_hash": "0" * 64}])
    async def test_stream_that_is_not_what_its_digest_says_is_refused(
        self, rig: Rig, lie: dict[str, Any], parts: int
    ) -> None:
        stream = stream_of([content(rig.part_size * parts), b"the end"])

        def get_digest(*, allow_incomplete: bool = False) -> Any:
            return {**stream.get_digest(allow_incomplete=allow_incomplete), **lie}

        async with rig.storage() as storage:
            with pytest.raises(IntegrityError, match="but its digest says"):
                await storage.write_data_stream(stream, get_digest, {})
        await rig.check_nothing_left()

    @case("22")
    async def test_slow_store_stops_the_source(self, rig: Rig) -> None:
        chunk = content(rig.part_size // 4)
        given = 0

        async def source() -> AsyncGenerator[bytes]:
            nonlocal given
            for _ in range(4 * 8):
                given += 1
                yield chunk

        stream = DigestingStream(
            SerializedDataStream(data_stream=source(), content_type=CONTENT_TYPE, content_encoding=None)
        )
        storage = rig.storage(max_concurrent_parts=8, max_buffered_bytes=3 * len(chunk) * 4, part_size=len(chunk) * 4)
        wire = tap(storage)
        holds = [wire.hold("upload_part", nth=nth) for nth in (1, 2, 3)]
        if storage.settings.limits.ordered_parts:
            pytest.skip(f"{rig.name}: it sends parts in order")
        async with storage:
            task = asyncio.create_task(write_stream(storage, stream))
            for hold in holds:
                await hold.reached_by(task)
            for _ in range(100):
                await asyncio.sleep(0)
            # Three parts wait; one more chunk was read to see that the third part is not the last.
            assert given == 3 * 4 + 1
            for hold in holds:
                hold.release()
            await task
        assert given == 4 * 8

    @case("23")
    async def test_failing_clean_up_is_logged_with_the_key(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        async def fail() -> None:
            raise ConnectionError("the clean-up broke")

        storage = rig.storage()
        tap(storage).before("abort_upload", fail)
        with caplog.at_level(logging.WARNING, "lakery_cloud"):
            async with storage:
                with pytest.raises(ValueError, match="the source broke"):
                    stream = stream_of([content(rig.part_size * 2)], failure=ValueError("the source broke"))
                    await write_stream(storage, stream)
        assert any(".tmp/" in record.getMessage() for record in caplog.records)

    @case("23")
    async def test_content_is_saved_though_its_temporary_key_can_not_be_deleted(
        self, rig: Rig, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def fail() -> None:
            raise ConnectionError("the clean-up broke")

        data = content(rig.part_size * 2)
        storage = rig.storage()
        tap(storage).before("delete", fail)
        with caplog.at_level(logging.WARNING, "lakery_cloud"):
            async with storage:
                assert await storage.read_data(await write_stream(storage, stream_of([data]))) == data
        assert any(".tmp/" in record.getMessage() for record in caplog.records)

    @case("33")
    async def test_cancelled_copy_in_parts_leaves_nothing(self, rig: Rig) -> None:
        limits = replace(rig.storage().settings.limits, max_copy_size=rig.part_size, copy_part_size=rig.part_size)
        storage = rig.storage(limits=limits, max_concurrent_parts=2)
        hold = tap(storage).hold("copy_part", nth=2)
        async with storage:
            await cancel_at(hold, write_stream(storage, stream_of([content(rig.part_size * 4)])))
        await rig.check_nothing_left()
