"""`--inventory URL`: the manifest and the files of an inventory are objects of a bucket, on one server of each cloud."""

from pathlib import Path
from urllib.parse import quote

import pytest

from lakery_cloud import AccessDenied, ConfigError, IntegrityError, NoStorageData, ObjectStorage
from lakery_cloud.cli.inventories import open_inventory
from lakery_cloud.maintenance import VerifyJob, plan, run_job, total
from lakery_cloud.testing import Rule
from lakery_cloud.testing.faults import Answer
from tests.conftest import rig_on
from tests.helpers import hash_of, proxy_before, write
from tests.inventories import Entry, write_inventory
from tests.rigs.base import CloudRig
from tests.rigs.pairs import LOCAL_PAIRS

cloud_rig = rig_on(*(pair for pair in LOCAL_PAIRS if pair.name in ("s3-moto", "gcs-strict", "azure-azurite")))

FORMS = {"s3": "s3-csv", "gs": "gcs-csv", "az": "azure-csv"}
FOLDERS = {"s3": "inventories/{}/daily", "gs": "reports of a year/100%", "az": ""}
"""Scheme -> where the provider writes inventories in a bucket."""
BLOBS = [b"%d" % number for number in range(4)]


async def upload(rig: CloudRig, folder: Path) -> str:
    """Write an inventory of the storage into its bucket; return the key of its manifest."""
    scheme = rig.storage_class.url_scheme
    rows = [Entry(f"p/{hash_of(data)}", size=1) for data in BLOBS]
    deep = folder / FOLDERS[scheme].format(rig.bucket)
    manifest = write_inventory(deep, FORMS[scheme], rig.bucket, [rows[:2], rows[2:]])
    for path in folder.rglob("*"):
        if path.is_file():
            await rig.put(path.relative_to(folder).as_posix(), path.read_bytes())
    return manifest.relative_to(folder).as_posix()


async def verified(storage: ObjectStorage, url: str) -> dict[str, int]:
    """Verify what the inventory lists."""
    async with open_inventory(storage, url) as inventory:
        shards = await plan(storage, shards=16, inventory=inventory)
        return total([result async for result in run_job(VerifyJob(storage), shards)])


async def test_an_inventory_is_read_by_the_url_of_its_manifest(cloud_rig: CloudRig, tmp_path: Path) -> None:
    async with cloud_rig.storage(prefix="p") as storage:
        for data in BLOBS[1:]:  # the first one was deleted since
            await write(storage, data)
        await write(storage, b"newer")
        key = await upload(cloud_rig, tmp_path)
        assert await verified(storage, cloud_rig.url(key)) == {"objects": 3, "bytes": 3}


async def test_what_is_missing_or_damaged_in_the_bucket_is_named(cloud_rig: CloudRig, tmp_path: Path) -> None:
    async with cloud_rig.storage(prefix="p") as storage:
        key = await upload(cloud_rig, tmp_path)
        with pytest.raises(ConfigError, match="no manifest.json' in bucket .* does not exist"):
            await verified(storage, cloud_rig.url("no manifest.json"))
        (first, *_) = sorted(each for each in await cloud_rig.keys() if ".csv" in each)
        await cloud_rig.put(first, b"damaged")
        with pytest.raises((ConfigError, IntegrityError), match=f"the file .*{Path(first).name}' of the inventory has"):
            await verified(storage, cloud_rig.url(key))
        await cloud_rig.delete(first)
        with pytest.raises(NoStorageData, match=Path(first).name):
            await verified(storage, cloud_rig.url(key))
        async with proxy_before(cloud_rig, Rule(Answer(403), "get", times=None)):
            with pytest.raises(AccessDenied):
                await verified(storage, cloud_rig.url(key))


async def test_a_url_may_be_percent_encoded_or_not(cloud_rig: CloudRig, tmp_path: Path) -> None:
    async with cloud_rig.storage(prefix="p") as storage:
        await write(storage, BLOBS[0])
        key = await upload(cloud_rig, tmp_path)
        url = cloud_rig.url(key)
        quoted = quote(key)
        assert quoted in url
        assert (await verified(storage, url))["objects"] == 1
        if "%" not in key:
            assert (await verified(storage, url.replace(quoted, key)))["objects"] == 1
