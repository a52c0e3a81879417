"""Real accounts: whether this run has them, seen at a glance. All tests on `rig`, `url_rig` and `cloud_rig` run on them, too."""

import pytest

from lakery_cloud.testing import content, digest_of, stream_of
from tests.rigs.live import why_not_live
from tests.rigs.pairs import LIVE_PAIRS, Pair


@pytest.mark.parametrize("pair", [pytest.param(pair, id=pair.name) for pair in LIVE_PAIRS])
async def test_account_stores_content(
    pair: Pair, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := why_not_live(pair.cloud):
        pytest.skip(reason)
    async with pair.open(request, monkeypatch) as rig:
        data = content(rig.part_size * 2)
        async with rig.storage() as storage:
            stream = stream_of([data])
            assert await storage.read_data(await storage.write_data_stream(stream, stream.get_digest, {})) == data
        assert await rig.keys() == [digest_of(data)["content_hash"]]
        await rig.check_nothing_temporary()
