"""The conformance suite on every storage and server, also on doubles of unusual stores."""

import pytest

from lakery_cloud.testing import StorageConformance
from tests.conftest import rig_on
from tests.rigs.azure_profiles import AZURE_PROFILE_PAIRS
from tests.rigs.beside import BESIDE_PAIRS
from tests.rigs.pairs import PAIRS, PROFILE_PAIRS
from tests.rigs.s3_profiles import S3_PROFILE_PAIRS

rig = rig_on(*PAIRS, *PROFILE_PAIRS, *S3_PROFILE_PAIRS, *AZURE_PROFILE_PAIRS, *BESIDE_PAIRS)


@pytest.mark.usefixtures("short_pauses")
class TestConformance(StorageConformance):
    """The pairs are in `tests/rigs/pairs.py`."""
