"""What has landed is for ever: what each storage keeps on each server equals the golden file, to the letter."""

import asyncio
import re
from typing import Any

import pytest

from lakery_cloud import ContentRecord, StorageRegistry
from lakery_cloud.testing import (
    content,
    digest_of,
    tap,
)
from tests.golden.test_golden import GOLDEN
from tests.helpers import write_stream
from tests.rigs.base import PairRig

PREFIX = "some/prefix"
TAGS = {"project": "apollo"}


def golden_of(rig: PairRig) -> dict[str, Any]:
    entry: dict[str, Any] = GOLDEN["storages"][rig.storage_class.__name__]
    return entry


def on_rig(rig: PairRig, storage_data: str) -> str:
    """Golden storage data as it would have been written in the rig's bucket, where nothing but these names differs."""
    text, _ = re.subn(r'(: ?)"bucket"', rf'\1"{rig.bucket}"', storage_data)
    return text.replace(f'"{PREFIX}/', f'"{rig.in_bucket(PREFIX)}/')


@pytest.mark.case("37")
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_content_is_kept_under_the_golden_key_with_the_golden_names(rig: PairRig, algorithm: str) -> None:
    digest = digest_of(b"golden", algorithm=algorithm)
    async with rig.storage(prefix=PREFIX) as storage:
        storage_data = await storage.write_data(b"golden", digest, TAGS)
        assert storage.serialize_storage_data(storage_data) == on_rig(rig, golden_of(rig)["storage_data"][algorithm])
    key = f"{PREFIX}/{digest['content_hash']}"
    assert await rig.keys() == [key]
    stored = await rig.get(key)
    assert stored is not None
    assert (stored.data, stored.content_type, stored.tags) == (b"golden", "application/x-test", TAGS)
    if algorithm == "sha256":
        assert await rig.stored_metadata(key) == GOLDEN["stored_metadata"][rig.storage_class.__name__]


@pytest.mark.case("37")
async def test_stream_travels_under_a_golden_temporary_key(rig: PairRig) -> None:
    storage = rig.storage(prefix="a/b")
    hold = tap(storage).hold("copy")
    async with storage:
        writing = asyncio.create_task(write_stream(storage, content(rig.part_size * 2)))
        await hold.reached.wait()
        (key,) = await rig.keys()
        hold.release()
        await writing
    assert re.fullmatch(GOLDEN["temporary_keys"]["a/b"], key)


@pytest.mark.case("36")
async def test_storage_data_that_was_ever_written_still_reads(rig: PairRig) -> None:
    golden = golden_of(rig)
    for text in [*golden["storage_data"].values(), *golden["older_storage_data"]]:
        written = on_rig(rig, text)
        (key,) = (value for value in re.findall(r'"([^"]+)"', text) if value.startswith(f"{PREFIX}/"))
        await rig.put(key, b"golden")
        async with rig.storage() as storage:
            assert await storage.read_data(storage.deserialize_storage_data(written)) == b"golden"


@pytest.mark.case("36")
async def test_records_under_every_name_of_the_past_still_load(rig: PairRig) -> None:
    golden = golden_of(rig)
    for text in golden["older_storage_data"]:
        (key,) = (value for value in re.findall(r'"([^"]+)"', text) if value.startswith(f"{PREFIX}/"))
        await rig.put(key, b"golden")
        for name in (golden["name"], *golden["aliases"]):
            record = ContentRecord(**digest_of(b"golden"), storage_name=name, storage_data=on_rig(rig, text))
            async with StorageRegistry([rig.storage()]) as registry:
                assert (await registry.load(record))["data"] == b"golden"
