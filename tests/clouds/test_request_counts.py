"""How many requests a write costs, counted before the server."""

from collections.abc import Mapping, Sequence

import pytest

from lakery_cloud import StorageRegistry
from lakery_cloud.testing import content, digest_of
from tests.conftest import rig_on
from tests.helpers import blob_stream, look_after_parts, proxy_before, write_stream
from tests.rigs.base import CloudRig
from tests.rigs.pairs import LOCAL_PAIRS, PROFILE_PAIRS

cloud_rig = rig_on(
    *(pair for pair in (*PROFILE_PAIRS, *LOCAL_PAIRS) if pair.name in ("s3-aws", "gcs-strict", "azure-azurite"))
)

KNOWN: Mapping[str, Sequence[str]] = {
    "s3": ["head_object", "create_multipart_upload", *["upload_part"] * 3, "complete_multipart_upload"],
    "gs": ["objects.get", "upload.begin", *["upload"] * 3],
}
"""Scheme -> the requests that write three parts with a known digest."""
UNKNOWN: Mapping[str, Sequence[str]] = {
    "s3": [
        *("create_multipart_upload", *["upload_part"] * 3, "head_object", "complete_multipart_upload"),
        *("copy_object", "delete_object"),
    ],
    "gs": ["upload.begin", *["upload"] * 3, "objects.get", "objects.patch", "objects.move"],
    "az": [
        *(*["put_block"] * 3, "get_blob_properties", "put_block_list", "get_blob_properties"),
        *("copy_blob", "delete_blob"),
    ],
}
"""Scheme -> the requests that write three parts whose digest is not known before."""
LOOKS = {"head_object", "objects.get", "get_blob_properties"}
PARTS = {"upload_part", "upload", "put_block"}


@pytest.mark.parametrize("parts", [1, 3])
async def test_stream_with_a_known_digest_is_looked_up_and_sent_to_its_key(cloud_rig: CloudRig, parts: int) -> None:
    data = content(cloud_rig.part_size * (parts - 1) + 1)
    scheme = cloud_rig.storage_class.url_scheme
    async with (
        proxy_before(cloud_rig) as proxy,
        cloud_rig.storage(max_concurrent_parts=1) as storage,
        StorageRegistry([storage]) as registry,
    ):
        await registry.exists(await registry.save_stream(blob_stream([b"so that it is connected"])))
        proxy.exchanges.clear()
        await registry.save_stream(blob_stream([data]), digest=digest_of(data))
        if parts == 1:
            assert len(proxy.exchanges) == 2  # one look, and one put
        elif scheme in KNOWN:
            assert [exchange.operation for exchange in proxy.exchanges] == KNOWN[scheme]
        proxy.exchanges.clear()
        await registry.save_stream(blob_stream([data]), digest=digest_of(data))
        assert len(proxy.exchanges) == 1
    assert (await cloud_rig.get(digest_of(data)["content_hash"])).data == data


async def test_stream_is_looked_up_once_and_its_temporary_object_is_described_by_its_completion(
    cloud_rig: CloudRig,
) -> None:
    async with proxy_before(cloud_rig) as proxy, cloud_rig.storage(max_concurrent_parts=1) as storage:
        for seed in range(2):  # the first move asks whether the bucket keeps the moved object
            data = content(cloud_rig.part_size * 2 + 1, seed=seed)
            proxy.exchanges.clear()
            storage_data = await write_stream(storage, data)
        expected = UNKNOWN[cloud_rig.storage_class.url_scheme]
        look = next(operation for operation in expected if operation in LOOKS)
        sent = look_after_parts([exchange.operation for exchange in proxy.exchanges], look, PARTS)
        assert sent == expected
        assert await storage.read_data(storage_data) == data
    await cloud_rig.check_nothing_temporary()
