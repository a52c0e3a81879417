"""Conformance cases of writes: content, repeated and concurrent writes, and objects past the limits of one request."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from lakery_cloud.errors import IntegrityError
from lakery_cloud.testing.calls import read_stream, write, write_stream
from lakery_cloud.testing.content import TAGS, chunked, content, digest_of, stream_of
from lakery_cloud.testing.rig import Rig
from lakery_cloud.testing.wire import tap

case = pytest.mark.case


class WriteCases:
    """What a write stores, and that it stores it once."""

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
            pytest.skip(f"{rig.name}: it sends parts in order")
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
    async def test_blob_past_the_limit_of_one_request_goes_in_parts(self, rig: Rig) -> None:
        data = content(rig.part_size * 2 + 1)
        storage = rig.storage(limits=replace(rig.storage().settings.limits, max_put_size=rig.part_size))
        wire = tap(storage)
        async with storage:
            assert await storage.read_data(await write(storage, data)) == data
        assert (wire.count("put"), wire.count("upload_part")) == (0, 3)
        await rig.check_nothing_temporary()
