"""The CRC-32C of a whole object, which the store compares when an upload to a content key is completed."""

from dataclasses import replace

import google_crc32c
import pytest

from lakery_cloud.engine.checksums import as_header, crc32c_of_parts
from lakery_cloud.engine.keys import Address, is_temporary
from lakery_cloud.engine.model import ObjectInfo, Receipt
from lakery_cloud.providers.s3.answers import completed
from lakery_cloud.testing import content, digest_of, stream_of
from tests.conftest import rig_on
from tests.helpers import proxy_before
from tests.rigs.pairs import PROFILE_PAIRS
from tests.rigs.s3 import S3Rig

cloud_rig = rig_on(*(pair for pair in PROFILE_PAIRS if pair.name == "s3-aws"))


def checksum(data: bytes) -> str:
    return as_header(google_crc32c.value(data))


@pytest.mark.parametrize("is_copied", [False, True], ids=["sent", "copied"])
async def test_checksum_of_the_whole_object_is_sent_at_the_end(cloud_rig: S3Rig, is_copied: bool) -> None:
    data = content(2 * cloud_rig.part_size + 1)
    limits = replace(
        cloud_rig.storage().settings.limits, max_copy_size=cloud_rig.part_size, copy_part_size=cloud_rig.part_size
    )
    stream = stream_of([data], expected=None if is_copied else digest_of(data))
    async with proxy_before(cloud_rig) as proxy, cloud_rig.storage(limits=limits) as storage:
        await storage.write_data_stream(stream, stream.get_digest, {})
        sent = proxy.exchanges_of("complete_upload")[-1].headers
        looked = [exchange for exchange in proxy.exchanges_of("head") if is_temporary(exchange.key)]
    assert (sent["x-amz-checksum-crc32c"], sent["x-amz-checksum-type"]) == (checksum(data), "FULL_OBJECT")
    assert not looked  # the checksum in the response proves what the store has made


@pytest.mark.parametrize(
    ("given", "is_proved"),
    [
        ({"ChecksumCRC32C": "AAAAAA==", "ChecksumType": "FULL_OBJECT"}, True),
        ({"ChecksumCRC32C": "AAAAAQ==", "ChecksumType": "FULL_OBJECT"}, False),
        ({"ChecksumCRC32C": "AAAAAA==", "ChecksumType": "COMPOSITE"}, False),
        ({"ChecksumCRC32C": "AAAAAA=="}, False),
        ({"ChecksumType": "FULL_OBJECT"}, False),
        ({}, False),
    ],
)
def test_completion_proves_its_object_by_the_checksum_alone(given: dict[str, str], is_proved: bool) -> None:
    address = Address("bucket", "key")
    answer = {"ETag": '"e"', "VersionId": "v", **given}
    expected = ObjectInfo(address, 5, '"e"', version_id="v")
    assert completed(address, 5, "AAAAAA==", answer) == (expected if is_proved else "v")
    assert completed(address, 5, None, answer) == "v"


@pytest.mark.parametrize("sizes", [(), (0,), (1,), (5, 0, 7), (100_000, 3, 1)])
def test_checksum_of_parts_is_that_of_their_bytes(sizes: tuple[int, ...]) -> None:
    parts = [content(size, seed=seed) for seed, size in enumerate(sizes)]
    receipts = [Receipt(number, "", checksum(part), len(part)) for number, part in enumerate(parts, start=1)]
    assert crc32c_of_parts(receipts) == checksum(b"".join(parts))
    assert crc32c_of_parts([*receipts, Receipt(9, "")]) is None
