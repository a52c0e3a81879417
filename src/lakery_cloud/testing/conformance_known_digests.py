"""Conformance cases of streams whose digest is known: they go straight to the content key, where the store allows it."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import IntegrityError
from lakery_cloud.testing.calls import write, write_stream
from lakery_cloud.testing.conformance_interruptions import cancel_at
from lakery_cloud.testing.content import TAGS, content, digest_of, stream_of
from lakery_cloud.testing.rig import Rig
from lakery_cloud.testing.wire import tap

case = pytest.mark.case


class KnownDigestCases:
    """What a stream with a known digest stores, and that nothing partial is ever at its key."""

    @case("4")
    @pytest.mark.parametrize("is_said_by_the_stream", [True, False])
    async def test_known_stream_is_stored_with_its_attributes(self, rig: Rig, is_said_by_the_stream: bool) -> None:
        data = content(rig.part_size * 2 + 1)
        digest = digest_of(data, content_encoding="identity")
        stream = stream_of([data], content_encoding="identity", expected=digest if is_said_by_the_stream else None)

        def known(**_: bool) -> Any:
            return {**digest, "is_complete": True}

        storage = rig.storage(max_concurrent_parts=2)
        wire = tap(storage)
        async with storage:
            get_digest = stream.get_digest if is_said_by_the_stream else known
            storage_data = await storage.write_data_stream(stream, get_digest, TAGS)
            assert await storage.read_data(storage_data) == data
            found = await storage.stat(storage_data)
            assert (dict(found.tags), found.info.content_encoding) == (TAGS, "identity")
            goes_straight = (await storage.transport()).uploads_to_content
        assert (wire.count("begin_upload"), wire.count("upload_part")) == (1, 3)
        assert (wire.count("copy"), wire.count("delete")) == ((0, 0) if goes_straight else (1, 1))
        await rig.check_nothing_temporary()

    @case("17")
    @pytest.mark.parametrize("moment", ["before", "after"])
    @pytest.mark.parametrize(("operation", "nth"), [("begin_upload", 1), ("upload_part", 3), ("complete_upload", 1)])
    async def test_cancelled_known_stream_leaves_the_content_or_nothing(
        self, rig: Rig, operation: str, nth: int, moment: str
    ) -> None:
        data = content(rig.part_size * 3)
        storage = rig.storage(max_concurrent_parts=2)
        hold = tap(storage).hold(operation, nth=nth, moment=moment)
        async with storage:
            await cancel_at(hold, write_stream(storage, stream_of([data], expected=digest_of(data))))
        await self._check_content_or_nothing(rig, data)

    @case("18")
    async def test_error_of_the_source_of_a_known_stream_leaves_nothing(self, rig: Rig) -> None:
        data = content(rig.part_size * 2 + 1)
        source = stream_of([data[: rig.part_size], b"x"], failure=ValueError("broke"), expected=digest_of(data))
        async with rig.storage() as storage:
            with pytest.raises(ValueError, match="broke"):
                await write_stream(storage, source)
        await rig.check_nothing_left()

    @case("19")
    @pytest.mark.parametrize("parts", [0, 2])
    @pytest.mark.parametrize("lie", [{"content_size": 10**9}, {"content_hash": "0" * 64}])
    async def test_stream_with_another_digest_than_the_known_one_is_refused_before_its_end_is_sent(
        self, rig: Rig, lie: dict[str, Any], parts: int
    ) -> None:
        data = content(rig.part_size * parts + 1)
        expected: Any = {**digest_of(data), **lie}
        storage = rig.storage()
        wire = tap(storage)
        async with storage:
            with pytest.raises(IntegrityError, match="but its digest says"):
                await write_stream(storage, stream_of([data], expected=expected))
            ends = 0 if (await storage.transport()).uploads_to_content or not parts else 1
        assert (wire.count("upload_part"), wire.count("complete_upload"), wire.count("put")) == (parts + ends, 0, 0)
        await rig.check_nothing_left()

    @case("11")
    @pytest.mark.parametrize("operation", ["begin_upload", "upload_part", "complete_upload"])
    async def test_known_stream_that_another_writer_stores_meanwhile_is_success(self, rig: Rig, operation: str) -> None:
        data = content(rig.part_size + 1)
        storage = rig.storage()
        hold = tap(storage).hold(operation, moment="before")
        async with storage, rig.storage() as other:
            task = asyncio.create_task(write_stream(storage, stream_of([data], expected=digest_of(data))))
            await hold.reached_by(task)
            stored = await other.write_data(data, digest_of(data), {})
            hold.release()
            assert await task == stored
            assert await other.read_data(stored) == data
        assert await rig.keys() == [digest_of(data)["content_hash"]]
        await rig.check_nothing_temporary()

    @case("11")
    async def test_writers_of_one_known_stream_all_succeed(self, rig: Rig) -> None:
        data = content(rig.part_size + 1)

        async def save(storage: ObjectStorage[Any]) -> Any:
            return await write_stream(storage, stream_of([data], expected=digest_of(data)))

        async with rig.storage() as first, rig.storage() as second:
            stored = await asyncio.gather(*(save(storage) for storage in (first, second) * 3))
            assert await first.read_data(stored[0]) == data
        assert await rig.keys() == [digest_of(data)["content_hash"]]
        await rig.check_nothing_temporary()

    @case("33")
    async def test_stored_blob_past_the_limit_of_one_request_is_not_sent_again(self, rig: Rig) -> None:
        data = content(rig.part_size * 2 + 1)
        storage = rig.storage(limits=replace(rig.storage().settings.limits, max_put_size=rig.part_size))
        wire = tap(storage)
        async with storage:
            assert await write(storage, data) == await write(storage, data)
        assert wire.count("upload_part") == 3

    async def _check_content_or_nothing(self, rig: Rig, data: bytes) -> None:
        found = await rig.get(digest_of(data)["content_hash"])
        assert found is None or found.data == data
        if found is not None:
            await rig.delete(digest_of(data)["content_hash"])
        await rig.check_nothing_left()
