"""The providers' inventories: each form as it is documented, with rows that don't count."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lakery_cloud import ConfigError, FileStorage, MemoryStorage, NoStorageData
from lakery_cloud.maintenance import plan, read_inventory
from lakery_cloud.maintenance.shards import Shard, listed
from tests.helpers import hash_of
from tests.inventories import FORMS, Entry, write_inventory

BUCKET = "bucket"
PREFIX = "réports/100% +1/日"
LATER = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
HASHES = sorted(hash_of(f"{number}") for number in range(40))


def entries(*hashes: str, **fields: Any) -> list[Entry]:
    return [Entry(f"{PREFIX}/{each}", size=7, **fields) for each in hashes]


def with_noise(states: tuple[str, ...]) -> list[list[Entry]]:
    """Two files with all hashes, not in their order, and rows that don't count or count once."""
    first, second = HASHES[::-2], HASHES[::2]
    noise = [
        Entry(f"{PREFIX}/.tmp/20260101T000000Z-1"),
        Entry(f"{PREFIX}/.trash/{HASHES[0]}"),
        Entry(f"{PREFIX}/notes"),
        Entry(f"other/{HASHES[0]}", size=1000),
        Entry(HASHES[0], size=1000),
        *(Entry(f"{PREFIX}/{hash_of(state)}", state=state) for state in states),
        *(Entry(f"{PREFIX}/{HASHES[1]}", size=1, state=state) for state in states),
    ]
    twice = [*entries(*first[:3]), *entries(HASHES[5], modified=LATER, etag="new")]
    return [[*entries(*first), *noise], [*twice, *entries(*second), *noise[:2]], []]


NO_BYTES = "d41d8cd98f00b204e9800998ecf8427e"
CHECKSUMS = {
    "s3": {},
    "gcs": {"md5": NO_BYTES, "crc32c": "c99465aa"},
    "azure": {"md5": NO_BYTES, "crc64nvme": "0" * 16},
}
STATES = {"s3": ("version", "deleted"), "gcs": ("version",), "azure": ("version", "snapshot", "deleted")}


@pytest.mark.parametrize("form", FORMS)
async def test_an_inventory_lists_the_current_content_of_a_storage_once(form: str, tmp_path: Path):
    provider = form.partition("-")[0]
    storage = MemoryStorage(BUCKET, prefix=PREFIX)
    manifest = write_inventory(tmp_path / "made", form, BUCKET, with_noise(STATES[provider]))
    with await read_inventory(storage, manifest) as inventory:
        shards = await plan(storage, shards=16, inventory=inventory)
        found = [entry for shard in shards async for entry in listed(storage, shard)]
        assert [content_hash for content_hash, _ in found] == HASHES
        assert {info.size for _, info in found} == {7}
        assert [info.address for _, info in found] == [storage.keys.content(each) for each in HASHES]
        times = {content_hash: info.modified for content_hash, info in found}
        assert times[HASHES[5]] and abs(times[HASHES[5]] - LATER) < timedelta(seconds=1), "the newer of two rows counts"
        version = {"s3": '"abc"', "gcs": str(int(b"abc".hex(), 16)), "azure": '"0xabc"'}[provider]
        assert found[0][1].version == version
        told = {"s3": (None, "STANDARD"), "gcs": ("text/plain", "STANDARD"), "azure": ("text/plain", "Hot")}[provider]
        assert {(info.content_type, info.storage_class) for _, info in found} == {told}
        assert [info.checksums for _, info in found] == [CHECKSUMS[provider]] * len(HASHES)
        assert inventory.count("") >= len(HASHES)
        assert [entry async for entry in listed(storage, Shard("a", inventory).portable())] == [
            entry for entry in found if entry[0].startswith("a")
        ]
        folder = inventory.folder
    assert not folder.exists()


@pytest.mark.parametrize("form", ["s3-csv", "gcs-csv", "azure-csv"])
@pytest.mark.parametrize("is_moved", [False, True])
async def test_an_inventory_is_read_from_a_bucket(form: str, is_moved: bool, tmp_path: Path):
    root = tmp_path / "bucket"
    deep = root if form == "azure-csv" else root / "inventories" / BUCKET / "daily"
    manifest = write_inventory(deep, form, BUCKET, [entries(*HASHES)])
    if is_moved:
        new = root / "elsewhere"
        new.mkdir()
        for path in [*deep.rglob("*.*")]:
            if path.is_file():
                path.rename(new / path.name)
        manifest = new / manifest.name
    storage = MemoryStorage(BUCKET, prefix=PREFIX)
    async with FileStorage(root) as bucket:
        key = manifest.relative_to(root).as_posix()
        with await read_inventory(storage, key, bucket=bucket) as inventory:
            assert [each for each, _ in inventory.entries(storage.keys, "")] == HASHES
            assert not [path for path in inventory.folder.iterdir() if len(path.name) > 2], "no copy is kept"
        for path in root.rglob("*.csv*"):
            path.unlink()
        with pytest.raises(NoStorageData):
            await read_inventory(storage, key, bucket=bucket)
        with pytest.raises(ConfigError, match="does not exist"):
            await read_inventory(storage, "inventories/none.json", bucket=bucket)
