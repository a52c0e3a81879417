"""Conformance cases of upkeep: delete, sweep, verify."""

from datetime import timedelta

import pytest

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.maintenance import leftovers, sweep, verify
from lakery_cloud.maintenance.shards import EVERYTHING
from lakery_cloud.streams.parts import Part
from lakery_cloud.testing.calls import write
from lakery_cloud.testing.content import content, digest_of
from lakery_cloud.testing.rig import Rig

case = pytest.mark.case


class UpkeepCases:
    """What the tools that work on a whole bucket delete and report."""

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
            by_shard = [verified for shard in EVERYTHING.split() async for verified in verify(storage, shard=shard)]
            assert {verified.content_hash: verified.problem for verified in by_shard} == found
            assert [verified.content_hash for verified in by_shard] == list(found)
            first = min(found)
            assert [verified.content_hash async for verified in verify(storage, after=first)] == sorted(found)[1:]
            await storage.delete(storage.storage_data_of(digest_of(blobs[3])))
            assert replaced not in {verified.content_hash async for verified in verify(storage)}
