"""At the provider's real limits: gigabytes, so only on demand, with `make test ARGS="-m full_size"`."""

from collections.abc import AsyncGenerator

import pytest

from lakery_cloud.providers.s3.settings import S3_LIMITS
from lakery_cloud.testing import tap
from tests.helpers import write_stream
from tests.rigs.base import MiB
from tests.rigs.s3 import S3Rig

pytestmark = [pytest.mark.full_size, pytest.mark.timeout(1800)]


@pytest.mark.case("33")
async def test_stream_past_the_limit_of_one_copy_request(seaweedfs_rig: S3Rig) -> None:
    chunks = S3_LIMITS.max_copy_size // MiB + 1

    async def source() -> AsyncGenerator[bytes]:
        for number in range(chunks):
            yield number.to_bytes(4, "big") * (MiB // 4)

    storage = seaweedfs_rig.storage(part_size=64 * MiB)
    wire = tap(storage)
    async with storage:
        storage_data = await write_stream(storage, source())
        size = 0
        async for chunk in storage.read_data_stream(storage_data):
            size += len(chunk)
    assert size == chunks * MiB
    assert (wire.count("copy"), wire.count("copy_part")) == (0, 11)
    await seaweedfs_rig.check_nothing_temporary()
