"""The conformance suite: what every storage must do, whatever its store. Subclass it, and give it a `rig` fixture.

Each test carries the number of its case in docs/conformance.md as a marker, `@pytest.mark.case("17")`.
"""

import asyncio
import gzip
import logging
import pickle
import random
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lakery_cloud.digest import DigestingStream
from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import (
    BucketNotFound,
    ConfigError,
    IntegrityError,
    InvalidTags,
    NoStorageData,
)
from lakery_cloud.maintenance import leftovers, sweep, verify
from lakery_cloud.storage import SerializedDataStream
from lakery_cloud.streams.parts import Part
from lakery_cloud.testing.content import (
    CONTENT_TYPE,
    chunked,
    content,
    digest_of,
    stream_of,
)
from lakery_cloud.testing.rig import Rig
from lakery_cloud.testing.wire import Hold, tap

TAGS = {"project": "lakery cloud", "path": "a/b:c=d+e-f_g.h"}

case = pytest.mark.case


async def write(storage: ObjectStorage[Any], data: bytes, **options: Any) -> Any:
    """Write a blob."""
    return await storage.write_data(data, digest_of(data, **options), {})


async def write_stream(storage: ObjectStorage[Any], stream: DigestingStream) -> Any:
    """Write a stream."""
    return await storage.write_data_stream(stream, stream.get_digest, {})


async def read_stream(storage: ObjectStorage[Any], storage_data: Any) -> bytes:
    """Read a stream to its end."""
    async with aclosing(storage.read_data_stream(storage_data)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def cancel_at(hold: Hold, writing: Coroutine[Any, Any, Any]) -> None:
    """Cancel a write when it waits at the hold, and then let go of what was held."""
    task = asyncio.create_task(writing)
    await hold.reached.wait()
    task.cancel()
    hold.release()
    with pytest.raises(asyncio.CancelledError):
        await task


class StorageConformance:
    """What every storage must do. A subclass gives the fixture `rig`, a new and empty one for each test."""

    @pytest.fixture(autouse=True)
    def _skip_what_cannot_be_shown(self, rig: Rig, request: pytest.FixtureRequest) -> None:
        reason = rig.cannot.get(request.function.__name__)
        if reason:
            pytest.skip(f"{rig.name} can't show it: {reason}")

    # Content

    @case("1")
    async def test_empty_blob_and_empty_stream(self, rig: Rig) -> None:
        async with rig.storage() as storage:
            assert await storage.read_data(await write(storage, b"")) == b""
        async with rig.storage(prefix="stream") as storage:
            assert await read_stream(storage, await write_stream(storage, stream_of([]))) == b""
            assert await read_stream(storage, await write_stream(storage, stream_of([b"", b""]))) == b""
        await rig.check_nothing_temporary()

    @case("2")
    async def test_one_byte(self, rig: Rig) -> None:
        async with rig.storage() as storage:
            assert await storage.read_data(await write(storage, b"\0")) == b"\0"
            assert await read_stream(storage, await write_stream(storage, stream_of([b"\1"]))) == b"\1"

    @case("3")
    @pytest.mark.parametrize("difference", [-1, 0, 1])
    async def test_stream_of_about_one_part(self, rig: Rig, difference: int) -> None:
        data = content(rig.part_size + difference)
        async with rig.storage() as storage:
            assert await read_stream(storage, await write_stream(storage, stream_of([data]))) == data
        await rig.check_nothing_temporary()

    @case("3")
    @pytest.mark.parametrize("more", [0, 1])
    async def test_stream_of_all_parts_at_a_time(self, rig: Rig, more: int) -> None:
        data = content(rig.part_size * 3 + more)
        async with rig.storage(max_concurrent_parts=3) as storage:
            assert await read_stream(storage, await write_stream(storage, stream_of([data]))) == data
        await rig.check_nothing_temporary()

    @case("4")
    async def test_ragged_chunks(self, rig: Rig) -> None:
        part = rig.part_size
        data = content(part * 4 + part // 2)
        sizes = [1, 0, 7, part - 9, 0, 2, part * 3, 1, 0]
        async with rig.storage() as storage:
            assert (
                await read_stream(storage, await write_stream(storage, stream_of(chunked(data, [*sizes, part]))))
                == data
            )

    @case("5")
    async def test_parts_that_finish_out_of_order(self, rig: Rig) -> None:
        data = content(rig.part_size * 4)
        storage = rig.storage(max_concurrent_parts=4)
        if storage.settings.limits.ordered_parts:
            pytest.skip(f"{rig.name} sends parts in order")
        wire = tap(storage)
        first = wire.hold("upload_part", nth=1)

        async def release_first() -> None:
            first.release()

        wire.after("upload_part", release_first, nth=3)
        async with storage:
            assert await read_stream(storage, await write_stream(storage, stream_of([data]))) == data

    @case("6")
    async def test_part_size_grows_before_the_parts_run_out(self, rig: Rig) -> None:
        data = content(rig.part_size * 12)
        storage = rig.storage()
        limits = replace(storage.settings.limits, max_parts=8)
        storage = rig.storage(limits=limits)
        wire = tap(storage)
        async with storage:
            assert await read_stream(storage, await write_stream(storage, stream_of([data]))) == data
        assert wire.count("upload_part") < 8

    @case("7")
    async def test_blobs_read_as_streams_and_streams_as_blobs(self, rig: Rig) -> None:
        data = content(rig.part_size * 2 + 1)
        async with rig.storage(prefix="blob") as storage:
            assert await read_stream(storage, await write(storage, data)) == data
        async with rig.storage(prefix="stream") as storage:
            assert await storage.read_data(await write_stream(storage, stream_of([data]))) == data

    @case("7")
    async def test_ranges_read_ahead_come_in_order(self, rig: Rig) -> None:
        data = content(rig.part_size * 2 + 12_345)
        async with rig.storage(concurrent_ranges=4, range_size=100_000, max_buffered_bytes=250_000) as storage:
            storage_data = await write(storage, data)
            assert await read_stream(storage, storage_data) == data
            assert await storage.read_data(storage_data) == data

    @case("8")
    async def test_attributes_are_equal_after_a_put_and_after_a_stream(self, rig: Rig) -> None:
        data = content(rig.part_size * 2)
        options: dict[str, Any] = {"content_type": "text/plain; charset=utf-8", "content_encoding": "zstd"}
        digest = digest_of(data, **options)
        async with rig.storage(prefix="blob") as blobs, rig.storage(prefix="stream") as streams:
            await blobs.write_data(data, digest, TAGS)
            stream = stream_of([data], **options)
            await streams.write_data_stream(stream, stream.get_digest, TAGS)
        blob = await rig.get(f"blob/{digest['content_hash']}")
        assert blob == await rig.get(f"stream/{digest['content_hash']}")
        assert blob is not None
        assert (blob.content_type, blob.content_encoding) == ("text/plain; charset=utf-8", "zstd")
        assert blob.tags == TAGS
        assert blob.metadata == {
            "content-hash": digest["content_hash"],
            "content-hash-algorithm": "sha256",
            "content-size": str(len(data)),
        }

    @case("8")
    async def test_stat_and_list_and_find_tell_what_is_stored(self, rig: Rig) -> None:
        async with rig.storage() as storage:
            assert await storage.find(digest_of(b"data")) is None
            storage_data = await storage.write_data(b"data", digest_of(b"data"), TAGS)
            assert await storage.find(digest_of(b"data")) == storage_data
            found = await storage.stat(storage_data)
            assert (found.info.size, found.info.content_type, found.tags) == (4, CONTENT_TYPE, TAGS)
            listed = [rig.own_key(info.address.key) async for info in storage.list()]
            assert listed == [digest_of(b"data")["content_hash"]]
            assert await storage.digest_of(digest_of(b"data")["content_hash"]) == digest_of(b"data")

    @case("9")
    async def test_encoded_content_comes_back_as_it_was_stored(self, rig: Rig) -> None:
        data = gzip.compress(content(1000), mtime=0)
        async with rig.storage() as storage:
            storage_data = await storage.write_data(data, digest_of(data, content_encoding="gzip"), {})
            assert await storage.read_data(storage_data) == data
            assert await read_stream(storage, storage_data) == data

    @case("10")
    @pytest.mark.parametrize(
        "prefix", ["a b", "a%41b", "ä/ß", "日本語", "😀", "a+b&c=d;e@f,g", "a/b/c", "trailing/", ".tmp"]
    )
    async def test_prefix_is_kept_to_the_letter(self, rig: Rig, prefix: str) -> None:
        await self._check_prefix(rig, prefix)

    @case("10")
    async def test_prefix_with_an_empty_segment_is_kept_or_refused(self, rig: Rig) -> None:
        try:
            rig.storage(prefix="a//b")
        except ConfigError:
            return
        await self._check_prefix(rig, "a//b")

    @case("10")
    @pytest.mark.parametrize("prefix", ["/a", "a/../b", ".", "a\nb", "a\0", "x" * 900])
    async def test_prefix_that_no_key_can_have_is_refused(self, rig: Rig, prefix: str) -> None:
        with pytest.raises(ConfigError):
            rig.storage(prefix=prefix)

    async def _check_prefix(self, rig: Rig, prefix: str) -> None:
        data = content(rig.part_size + 1)
        async with rig.storage(prefix=prefix) as storage:
            small = await write(storage, b"small")
            large = await write_stream(storage, stream_of([data]))
            assert await storage.read_data(small) == b"small"
            assert await storage.read_data(large) == data
            assert len([info async for info in storage.list()]) == 2
        root = prefix.removesuffix("/")
        hashes = (digest_of(b"small")["content_hash"], digest_of(data)["content_hash"])
        assert sorted(await rig.keys()) == sorted(f"{root}/{content_hash}" for content_hash in hashes)

    # Idempotence and races

    @case("11")
    async def test_same_blob_twice_is_one_object(self, rig: Rig) -> None:
        async with rig.storage() as storage:
            assert await write(storage, b"again") == await write(storage, b"again")
        async with rig.storage() as another:
            await write(another, b"again")
        assert await rig.keys() == [digest_of(b"again")["content_hash"]]

    @case("11")
    async def test_same_stream_twice_is_one_object(self, rig: Rig) -> None:
        data = content(rig.part_size * 2)
        async with rig.storage() as storage:
            first = await write_stream(storage, stream_of([data]))
            assert first == await write_stream(storage, stream_of([data]))
        assert await rig.keys() == [digest_of(data)["content_hash"]]
        await rig.check_nothing_temporary()

    @case("11")
    async def test_second_write_of_a_stream_copies_nothing(self, rig: Rig) -> None:
        data = content(rig.part_size * 2)
        async with rig.storage() as storage:
            await write_stream(storage, stream_of([data]))
        storage = rig.storage()
        wire = tap(storage)
        async with storage:
            await write_stream(storage, stream_of([data]))
        assert (wire.count("complete_upload"), wire.count("copy"), wire.count("copy_part")) == (0, 0, 0)
        await rig.check_nothing_temporary()

    @case("11")
    async def test_sixteen_writers_of_one_blob_all_succeed(self, rig: Rig) -> None:
        async with rig.storage() as storage:
            written = await asyncio.gather(*(write(storage, b"all at once") for _ in range(16)))
            assert all(storage_data == written[0] for storage_data in written)
            assert await storage.read_data(written[0]) == b"all at once"
        assert await rig.keys() == [digest_of(b"all at once")["content_hash"]]

    @case("11")
    async def test_sixteen_writers_of_one_stream_all_succeed(self, rig: Rig) -> None:
        data = content(rig.part_size + 1)
        async with rig.storage() as storage:
            written = await asyncio.gather(*(write_stream(storage, stream_of([data])) for _ in range(16)))
            assert all(storage_data == written[0] for storage_data in written)
            assert await storage.read_data(written[0]) == data
        assert await rig.keys() == [digest_of(data)["content_hash"]]
        await rig.check_nothing_temporary()

    @case("12")
    async def test_nobody_sees_the_content_key_before_it_is_whole(self, rig: Rig) -> None:
        data = content(rig.part_size * 2)
        key = digest_of(data)["content_hash"]
        storage = rig.storage()
        wire = tap(storage)
        seen: list[bytes | None] = []

        async def look() -> None:
            found = await rig.get(key)
            seen.append(found.data if found else None)

        for operation in ("begin_upload", "upload_part", "complete_upload", "copy", "delete"):
            wire.before(operation, look)
            wire.after(operation, look)
        async with storage:
            await write_stream(storage, stream_of([data]))
        assert seen == [None] * 7 + [data] * 3

    @case("13")
    async def test_failed_write_leaves_what_was_there(self, rig: Rig) -> None:
        data = content(rig.part_size * 2)
        async with rig.storage() as storage:
            storage_data = await write_stream(storage, stream_of([data]))
            with pytest.raises(OSError, match="the disk broke"):
                await write_stream(storage, stream_of([data], failure=OSError("the disk broke")))
            assert await storage.read_data(storage_data) == data
        assert await rig.keys() == [digest_of(data)["content_hash"]]
        await rig.check_nothing_temporary()

    @case("15")
    async def test_something_else_at_the_content_key_is_an_error_and_stays(self, rig: Rig) -> None:
        data = content(rig.part_size * 2)
        for written in (b"mine", data):
            await rig.put(digest_of(written)["content_hash"], b"not yours")
        async with rig.storage() as storage:
            with pytest.raises(IntegrityError, match="9 bytes"):
                await write(storage, b"mine")
            with pytest.raises(IntegrityError, match="9 bytes"):
                await write_stream(storage, stream_of([data]))
        for written in (b"mine", data):
            found = await rig.get(digest_of(written)["content_hash"])
            assert found is not None
            assert found.data == b"not yours"
        await rig.check_nothing_temporary()

    # Interruptions

    @case("16")
    async def test_cancelled_before_the_first_request_sends_none(self, rig: Rig) -> None:
        # A full part is no reason to send yet: it may be the last one, and then a single request does.
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
            await part.reached.wait()
            task.cancel()
            await abort.reached.wait()
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
                await asyncio.gather(task, return_exceptions=True)
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

    @case("21")
    async def test_readers_closed_early_hold_nothing(self, rig: Rig) -> None:
        data = content(rig.part_size * 2)
        async with rig.storage(max_concurrent_reads=3) as storage:
            storage_data = await write(storage, data)
            for _ in range(3 + 1):
                async with aclosing(storage.read_data_stream(storage_data)) as chunks:
                    async for _chunk in chunks:
                        break
            assert await read_stream(storage, storage_data) == data

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
            pytest.skip(f"{rig.name} sends parts in order")
        async with storage:
            task = asyncio.create_task(write_stream(storage, stream))
            for hold in holds:
                await hold.reached.wait()
            for _ in range(100):
                await asyncio.sleep(0)
            # Three parts are held, and one chunk told that the third is not the last.
            assert given == 3 * 4 + 1
            for hold in holds:
                hold.release()
            await task
        assert given == 4 * 8

    @case("22")
    async def test_slow_reader_holds_no_more_than_the_ranges_ahead(self, rig: Rig) -> None:
        data = content(1_000_000)
        storage = rig.storage(concurrent_ranges=3, range_size=50_000, max_buffered_bytes=10**6)
        wire = tap(storage)
        async with storage:
            storage_data = await write(storage, data)
            async with aclosing(storage.read_data_stream(storage_data)) as chunks:
                async for _ in chunks:
                    await asyncio.sleep(0.2)
                    break
                assert wire.count("get") <= 5
        await rig.check_nothing_temporary()

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

    # Large copies

    @case("33")
    async def test_copy_past_the_limit_of_one_request_goes_in_parts(self, rig: Rig) -> None:
        data = content(rig.part_size * 3 + 5)
        limits = replace(rig.storage().settings.limits, max_copy_size=rig.part_size * 2, copy_part_size=rig.part_size)
        storage = rig.storage(limits=limits)
        wire = tap(storage)
        async with storage:
            stream = stream_of([data])
            storage_data = await storage.write_data_stream(stream, stream.get_digest, TAGS)
            assert await storage.read_data(storage_data) == data
            assert dict((await storage.stat(storage_data)).tags) == TAGS
        assert (wire.count("copy"), wire.count("copy_part")) == (0, 4)
        await rig.check_nothing_temporary()

    @case("33")
    async def test_cancelled_copy_in_parts_leaves_nothing(self, rig: Rig) -> None:
        limits = replace(rig.storage().settings.limits, max_copy_size=rig.part_size, copy_part_size=rig.part_size)
        storage = rig.storage(limits=limits, max_concurrent_parts=2)
        hold = tap(storage).hold("copy_part", nth=2)
        async with storage:
            await cancel_at(hold, write_stream(storage, stream_of([content(rig.part_size * 4)])))
        await rig.check_nothing_left()

    @case("33")
    async def test_blob_past_the_limit_of_one_request_goes_in_parts(self, rig: Rig) -> None:
        data = content(rig.part_size * 2 + 1)
        storage = rig.storage(limits=replace(rig.storage().settings.limits, max_put_size=rig.part_size))
        wire = tap(storage)
        async with storage:
            assert await storage.read_data(await write(storage, data)) == data
        assert (wire.count("put"), wire.count("upload_part")) == (0, 3)
        await rig.check_nothing_temporary()

    # Identity and configuration

    @case("34")
    async def test_missing_object_is_no_storage_data(self, rig: Rig) -> None:
        async with rig.storage() as storage:
            await write(storage, b"there")
            gone = storage.storage_data_of(digest_of(b"not there"))
            with pytest.raises(NoStorageData, match="there is no object"):
                await storage.read_data(gone)
            with pytest.raises(NoStorageData):
                await read_stream(storage, gone)
            with pytest.raises(NoStorageData):
                await storage.stat(gone)

    @case("34")
    async def test_missing_bucket_is_bucket_not_found(self, rig: Rig) -> None:
        async with rig.elsewhere() as storage:
            with pytest.raises(BucketNotFound, match="create it"):
                await write(storage, b"data")
            with pytest.raises(BucketNotFound):
                await write_stream(storage, stream_of([content(rig.part_size * 2)]))
            with pytest.raises(BucketNotFound):
                await storage.read_data(storage.storage_data_of(digest_of(b"data")))
            with pytest.raises(BucketNotFound):
                await storage.stat(storage.storage_data_of(digest_of(b"data")))
            with pytest.raises(BucketNotFound):
                assert [info async for info in storage.list()] == []

    @case("35")
    @pytest.mark.parametrize(
        "tags",
        [
            {f"key-{number}": "" for number in range(11)},
            {"": "empty key"},
            {"k" * 129: "long key"},
            {"key": "v" * 257},
            {"key": "ä"},
            {"key": "a,b"},
            {"aws:key": "reserved"},
            {"key": 1},
        ],
    )
    async def test_tags_past_the_rule_are_refused_before_any_request(self, rig: Rig, tags: dict[str, Any]) -> None:
        storage = rig.storage()
        wire = tap(storage)
        async with storage:
            with pytest.raises(InvalidTags):
                await storage.write_data(b"data", digest_of(b"data"), tags)
            stream = stream_of([b"data"])
            with pytest.raises(InvalidTags):
                await storage.write_data_stream(stream, stream.get_digest, tags)
        assert wire.log == []

    @case("35")
    async def test_tags_at_the_edge_of_the_rule_are_kept(self, rig: Rig) -> None:
        tags = {f"{number}" + "k" * 127: "v" * 256 for number in range(2)} | {f"{n} +-./:=_": "" for n in range(8)}
        async with rig.storage() as storage:
            storage_data = await storage.write_data(b"data", digest_of(b"data"), tags)
            assert dict((await storage.stat(storage_data)).tags) == tags

    @case("36")
    async def test_data_written_under_another_prefix_still_reads(self, rig: Rig) -> None:
        async with rig.storage(prefix="old") as old:
            text = old.serialize_storage_data(await write(old, b"data"))
        async with rig.storage(prefix="new") as new:
            assert await new.read_data(new.deserialize_storage_data(text)) == b"data"

    @case("36")
    async def test_storage_data_without_hash_and_size_still_reads(self, rig: Rig) -> None:
        async with rig.storage() as storage:
            storage_data = await write(storage, b"data")
            bare = {name: value for name, value in storage_data.items() if name not in ("hash", "size")}
            assert await storage.read_data(bare) == b"data"
            assert await read_stream(storage, bare) == b"data"

    @case("30")
    async def test_damaged_content_is_an_integrity_error(self, rig: Rig) -> None:
        data = content(1_000_000)
        damaged = data[:-1] + bytes([data[-1] ^ 1])
        async with rig.storage() as storage:
            storage_data = await write(storage, data)
            await rig.delete(digest_of(data)["content_hash"])
            await rig.put(digest_of(data)["content_hash"], damaged)
            with pytest.raises(IntegrityError, match="has the hash"):
                await storage.read_data(storage_data)
            received = bytearray()
            with pytest.raises(IntegrityError, match="has the hash"):
                async with aclosing(storage.read_data_stream(storage_data)) as chunks:
                    async for chunk in chunks:
                        received += chunk
            assert len(received) < len(data), "a consumer must never have all of damaged content without an error"
            await rig.delete(digest_of(data)["content_hash"])
            await rig.put(digest_of(data)["content_hash"], data[:-1])
            with pytest.raises(IntegrityError, match="999999 bytes"):
                await storage.read_data(storage_data)
        async with rig.storage(verify=False) as storage:
            bare = {name: value for name, value in storage_data.items() if name != "size"}
            assert await storage.read_data(bare) == data[:-1]

    @case("40")
    async def test_pickled_storage_works(self, rig: Rig) -> None:
        storage = rig.storage(prefix="pickled")
        async with storage:
            storage_data = await write(storage, b"data")
            restored = pickle.loads(pickle.dumps(storage))
        async with restored:
            assert await restored.read_data(storage_data) == b"data"
            assert repr(restored) == repr(storage)

    @case("40")
    def test_storage_works_on_one_event_loop_after_another(self, rig: Rig) -> None:
        storage = rig.storage()

        async def round_trip(data: bytes) -> bytes:
            async with storage:
                return await storage.read_data(await write(storage, data))

        for data in (b"first", b"second"):
            assert asyncio.run(round_trip(data)) == data

    @case("40")
    async def test_closed_storage_opens_again(self, rig: Rig) -> None:
        storage = rig.storage()
        async with storage:
            storage_data = await write(storage, b"data")
        assert await storage.read_data(storage_data) == b"data"
        await storage.aclose()
        await storage.aclose()

    @case("40")
    async def test_many_first_uses_at_once_share_one_client(self, rig: Rig) -> None:
        async with rig.storage() as storage:
            blobs = [content(100, seed=seed) for seed in range(20)]
            written = await asyncio.gather(*(write(storage, blob) for blob in blobs))
            read = await asyncio.gather(*(storage.read_data(storage_data) for storage_data in written))
            assert read == blobs

    @case("42")
    async def test_deleting_what_is_not_there_is_fine(self, rig: Rig) -> None:
        async with rig.storage() as storage:
            storage_data = await write(storage, b"data")
            await storage.delete(storage_data)
            await storage.delete(storage_data)
            assert await storage.find(digest_of(b"data")) is None
            assert await storage.read_data(await write(storage, b"data")) == b"data"

    @case("43")
    async def test_sweep_removes_old_temporary_objects_and_nothing_else(self, rig: Rig) -> None:
        old = "20200101T000000Z-00000000-0000-4000-8000-000000000000"
        not_ours = [
            "p/.tmp/notes.txt",
            f"p/.tmp/deeper/{old}",
            f"p/sub/.tmp/{old}",
            f"q/.tmp/{old}",
            f"p/{old}",
            "p/notes",
        ]
        async with rig.storage(prefix="p") as storage:
            await write(storage, b"content")
            young = rig.own_key(storage.keys.temporary().key)
            for key in [*not_ours, young, f"p/.tmp/{old}"]:
                await rig.put(key, b"data")
            kept = sorted(set(await rig.keys()) - {f"p/.tmp/{old}"})
            found = [leftover async for leftover in leftovers(storage)]
            assert [(rig.own_key(leftover.address.key), leftover.size) for leftover in found] == [(f"p/.tmp/{old}", 4)]
            assert sorted(await rig.keys()) == sorted([*kept, f"p/.tmp/{old}"]), "looking deletes nothing"
            assert [leftover async for leftover in sweep(storage)] == found
            assert sorted(await rig.keys()) == kept
            swept = [leftover async for leftover in sweep(storage, older_than=timedelta(0))]
            assert [rig.own_key(leftover.address.key) for leftover in swept] == [young]
            assert sorted(await rig.keys()) == sorted(set(kept) - {young})

    @case("43")
    async def test_sweep_aborts_unfinished_uploads(self, rig: Rig) -> None:
        async with rig.storage(prefix="p") as storage:
            transport = await storage.transport()
            upload = await transport.begin_upload(
                storage.keys.temporary(), ObjectAttributes("text/plain", None, {}, {}), is_temporary=True
            )
            await transport.upload_part(upload, Part(1, 0, (content(rig.part_size),), is_last=False))
            assert [leftover async for leftover in sweep(storage, older_than=timedelta(hours=1))] == []
            assert len([leftover async for leftover in leftovers(storage, older_than=timedelta(0))]) == 1
            assert len([leftover async for leftover in sweep(storage, older_than=timedelta(0))]) == 1
        await rig.check_nothing_left()

    @case("44")
    async def test_verify_finds_what_is_not_what_its_key_says(self, rig: Rig) -> None:
        blobs = [content(5000, seed=seed) for seed in range(6)]
        right, damaged, truncated, replaced, *_ = (digest_of(blob)["content_hash"] for blob in blobs)
        async with rig.storage() as storage:
            for blob in blobs:
                await write(storage, blob)
            assert {verified.problem async for verified in verify(storage)} == {None}
            await rig.put(damaged, blobs[1][:-1] + bytes([blobs[1][-1] ^ 1]))
            await rig.put(truncated, blobs[2][:-1])
            await rig.put(replaced, blobs[0])
            await rig.put(rig.own_key(storage.keys.temporary().key), b"not looked at")
            found = {verified.content_hash: verified.problem async for verified in verify(storage, at_a_time=2)}
            assert list(found) == sorted(found)
            assert {content_hash for content_hash, problem in found.items() if problem} == {
                damaged,
                truncated,
                replaced,
            }
            assert found[right] is None
            first = min(found)
            assert [verified.content_hash async for verified in verify(storage, after=first)] == sorted(found)[1:]
            await storage.delete(storage.storage_data_of(digest_of(blobs[3])))
            assert replaced not in {verified.content_hash async for verified in verify(storage)}
