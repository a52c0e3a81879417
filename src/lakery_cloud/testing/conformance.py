"""The conformance suite: what every storage must do, whatever its store. Subclass it and provide a `rig` fixture.

The marker of each test, `@pytest.mark.case("17")`, is the number of its case in docs/conformance.md.
"""

import asyncio
import pickle
from typing import Any

import pytest

from lakery_cloud.errors import ConfigError, InvalidTags
from lakery_cloud.testing.calls import write, write_stream
from lakery_cloud.testing.conformance_interruptions import InterruptionCases
from lakery_cloud.testing.conformance_known_digests import KnownDigestCases
from lakery_cloud.testing.conformance_reads import ReadCases
from lakery_cloud.testing.conformance_upkeep import UpkeepCases
from lakery_cloud.testing.conformance_writes import WriteCases
from lakery_cloud.testing.content import content, digest_of, stream_of
from lakery_cloud.testing.rig import Rig
from lakery_cloud.testing.wire import tap

case = pytest.mark.case


class StorageConformance(WriteCases, KnownDigestCases, ReadCases, InterruptionCases, UpkeepCases):
    """What every storage must do. A subclass provides the fixture `rig`: a new, empty rig for each test."""

    @pytest.fixture(autouse=True)
    def _skip_test_that_rig_cannot_pass(self, rig: Rig, request: pytest.FixtureRequest) -> None:
        reason = rig.cannot.get(request.function.__name__)
        if reason:
            pytest.skip(f"{rig.name}: {reason}")

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
