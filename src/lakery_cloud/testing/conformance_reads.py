"""Conformance cases of reads: content and attributes come back, damage and absence raise errors."""

import asyncio
import gzip
from contextlib import aclosing

import pytest

from lakery_cloud.errors import BucketNotFound, IntegrityError, NoStorageData
from lakery_cloud.testing.calls import read_stream, write, write_stream
from lakery_cloud.testing.content import CONTENT_TYPE, TAGS, content, digest_of, stream_of
from lakery_cloud.testing.rig import Rig
from lakery_cloud.testing.wire import tap

case = pytest.mark.case


class ReadCases:
    """What a read returns, and what it raises."""

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

    @case("34")
    async def test_missing_object_is_no_storage_data(self, rig: Rig) -> None:
        async with rig.storage() as storage:
            await write(storage, b"there")
            gone = storage.storage_data_of(digest_of(b"not there"))
            with pytest.raises(NoStorageData, match="no object at"):
                await storage.read_data(gone)
            with pytest.raises(NoStorageData):
                await read_stream(storage, gone)
            with pytest.raises(NoStorageData):
                await storage.stat(gone)

    @case("34")
    async def test_missing_bucket_is_bucket_not_found(self, rig: Rig) -> None:
        async with rig.elsewhere() as storage:
            with pytest.raises(BucketNotFound, match="Create it"):
                await write(storage, b"data")
            with pytest.raises(BucketNotFound):
                await write_stream(storage, stream_of([content(rig.part_size * 2)]))
            with pytest.raises(BucketNotFound):
                await storage.read_data(storage.storage_data_of(digest_of(b"data")))
            with pytest.raises(BucketNotFound):
                await storage.stat(storage.storage_data_of(digest_of(b"data")))
            with pytest.raises(BucketNotFound):
                assert [info async for info in storage.list()] == []

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
