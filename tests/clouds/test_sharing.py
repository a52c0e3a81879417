"""One storage for several processes, and storage data of one bucket read by a storage of another."""

import asyncio
import multiprocessing
from typing import Any

import pytest

from lakery_cloud import BucketNotFound, ObjectStorage, storage_from_url
from tests.helpers import PATIENCE, write
from tests.rigs.base import CloudRig, PairRig


@pytest.mark.case("40")
# From Python 3.12 on it warns of every fork in a process with threads, which servers and SDKs have.
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
async def test_forked_child_opens_a_client_of_its_own(rig: PairRig) -> None:
    fork = multiprocessing.get_context("fork")
    async with rig.storage() as storage:
        storage_data = await write(storage)
        results = fork.Queue()
        child = fork.Process(target=_read_in_child, args=(storage, storage_data, results))
        child.start()
        assert await asyncio.to_thread(results.get, timeout=PATIENCE) == b"data"
        await asyncio.to_thread(child.join, PATIENCE)
        assert child.exitcode == 0
        assert await storage.read_data(storage_data) == b"data", "the parent's client must have survived"


def _read_in_child(storage: ObjectStorage[Any], storage_data: Any, results: Any) -> None:
    async def read() -> None:
        async with storage:
            results.put(await storage.read_data(storage_data))

    # The fork copied the parent's running loop; the child starts afresh.
    asyncio.events._set_running_loop(None)
    asyncio.run(read())


@pytest.mark.case("36")
async def test_data_in_another_bucket_still_reads(cloud_rig: CloudRig) -> None:
    async with cloud_rig.storage() as storage:
        storage_data = await write(storage)
    async with cloud_rig.elsewhere() as other:
        assert other.keys.bucket != cloud_rig.bucket
        assert await other.read_data(storage_data) == b"data"


@pytest.mark.case("34")
async def test_missing_bucket_in_a_url_is_named(cloud_rig: CloudRig) -> None:
    missing = cloud_rig.elsewhere().keys.bucket
    async with storage_from_url(cloud_rig.url("x", bucket=missing)) as storage:
        with pytest.raises(BucketNotFound, match=f"'{missing}'"):
            await write(storage)
