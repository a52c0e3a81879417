"""A short soak of every storage. `make soak` has the long one."""

import pytest

from tests.conftest import rig_on
from tests.rigs.base import CloudRig, PairRig
from tests.rigs.pairs import PAIRS
from tests.soak.soak import soak

# The double of Cloud Storage shows the same as the other server.
rig = rig_on(*(pair for pair in PAIRS if pair.name != "gcs-fake"))


@pytest.mark.case("46")
async def test_soak_loses_nothing(rig: PairRig) -> None:
    if (reason := rig.cannot.get("test_blob_with_another_hash_is_refused")) is not None:
        pytest.skip(reason)
    if isinstance(rig, CloudRig) and rig.is_live:
        pytest.skip("no proxy stands before a real account")
    figures = await soak(rig, seconds=5, round_seconds=2.5, workers=8, seed=1)
    assert not figures.ledger.losses, figures.ledger.losses
    assert figures.ledger.operations.total() > 50
    assert figures.checked
    assert figures.rounds == 2
    assert await rig.keys() == []
