"""Of concurrent create-only completions of uploads to one key, exactly one succeeds, on the servers that are correct in this."""

import asyncio

from lakery_cloud.testing import content, digest_of, stream_of, tap
from tests.conftest import rig_on
from tests.helpers import proxy_before, write_stream
from tests.rigs.pairs import MINISTACK, PROFILE_PAIRS
from tests.rigs.s3 import S3Rig

WRITERS = 6
racing_rig = rig_on(MINISTACK, *(pair for pair in PROFILE_PAIRS if pair.name == "s3-aws"))


async def test_one_writer_completes_the_object_and_all_succeed(racing_rig: S3Rig) -> None:
    data = content(racing_rig.part_size + 1)
    together = asyncio.Barrier(WRITERS)
    async with proxy_before(racing_rig) as proxy:
        storages = [racing_rig.storage() for _ in range(WRITERS)]
        for storage in storages:
            tap(storage).before("complete_upload", together.wait)
        stored = await asyncio.gather(
            *(write_stream(storage, stream_of([data], expected=digest_of(data))) for storage in storages)
        )
        assert await storages[0].read_data(stored[0]) == data
        await asyncio.gather(*(storage.aclose() for storage in storages))
        statuses = sorted(exchange.status or 0 for exchange in proxy.exchanges_of("complete_upload"))
    assert statuses == [200] + [412] * (WRITERS - 1)
    assert stored == [stored[0]] * WRITERS
    assert await racing_rig.keys() == [digest_of(data)["content_hash"]]
    await racing_rig.check_nothing_temporary()
