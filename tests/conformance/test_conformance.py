"""The conformance suite on every storage and server, also on doubles of unusual stores."""

from lakery_cloud.testing import StorageConformance
from tests.conftest import rig_on
from tests.rigs.pairs import PAIRS, PROFILE_PAIRS

rig = rig_on(*PAIRS, *PROFILE_PAIRS)


class TestConformance(StorageConformance):
    """The pairs are in `tests/rigs/pairs.py`."""
