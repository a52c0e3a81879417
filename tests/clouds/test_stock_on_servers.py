"""What the listings of each cloud tell of objects, in rows of an inventory."""

import pytest

from lakery_cloud.maintenance import InventoryJob
from lakery_cloud.maintenance.shards import EVERYTHING
from lakery_cloud.testing import digest_of
from tests.conftest import rig_on
from tests.helpers import hash_of, write
from tests.rigs.base import PairRig
from tests.rigs.pairs import LOCAL_PAIRS

TOLD = {
    "memory": ("text/plain", None),
    "file": ("text/plain", None),
    "s3-moto": (None, "STANDARD"),
    "gcs-strict": ("text/plain", "STANDARD"),
    "azure-azurite": ("text/plain", "Hot"),
}
"""Pair -> content type and storage class."""

rig = rig_on(*(pair for pair in LOCAL_PAIRS if pair.name in TOLD))


async def test_an_inventory_has_what_the_listing_tells(rig: PairRig, request: pytest.FixtureRequest):
    async with rig.storage(prefix="p") as storage:
        await write(storage, b"data")
        result = await InventoryJob(storage).run(EVERYTHING, b"")
    (row,) = result.findings
    name = next(name for name in TOLD if name in request.node.name)
    content_type, storage_class = TOLD[name]
    assert (row["content_hash"], row["size"]) == (hash_of(b"data"), 4)
    expected = content_type and digest_of(b"data")["content_type"]
    assert (row["content_type"], row["storage_class"]) == (expected, storage_class)
    assert row["modified"] and row["version"]
