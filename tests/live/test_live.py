"""Real accounts and Google's testbench: whether this run has them, seen at a glance.

All tests on `rig`, `url_rig` and `cloud_rig` run on accounts, too; the conformance suite on the testbench.
"""

import pytest

from lakery_cloud.testing import content, digest_of
from tests.helpers import write_stream
from tests.rigs.pairs import LIVE_PAIRS, TESTBENCH_PAIR, Pair


@pytest.mark.parametrize("pair", [pytest.param(pair, id=pair.name) for pair in (*LIVE_PAIRS, TESTBENCH_PAIR)])
async def test_account_stores_content(
    pair: Pair, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pair.why_skipped:
        pytest.skip(pair.why_skipped)
    async with pair.open(request, monkeypatch) as rig:
        data = content(rig.part_size * 2)
        async with rig.storage() as storage:
            assert await storage.read_data(await write_stream(storage, data)) == data
        assert await rig.keys() == [digest_of(data)["content_hash"]]
        await rig.check_nothing_temporary()
