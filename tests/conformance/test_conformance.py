"""The conformance suite on every storage and server, also on doubles of unusual stores."""

from dataclasses import replace

import pytest

from lakery_cloud.testing import StorageConformance
from tests.conftest import rig_on
from tests.rigs.azure_profiles import AZURE_PROFILE_PAIRS
from tests.rigs.beside import BESIDE_PAIRS
from tests.rigs.fixed_parts import FIXED_PARTS_PAIRS
from tests.rigs.pairs import MINISTACK, PAIRS, PROFILE_PAIRS, TESTBENCH_PAIR
from tests.rigs.s3 import SmallPartsRig
from tests.rigs.s3_profiles import S3_PROFILE_PAIRS

WITH_SMALL_PARTS = {"s3-moto": lambda server: SmallPartsRig("MotoServer", server)}
LOCAL = [replace(pair, make=WITH_SMALL_PARTS.get(pair.name, pair.make)) for pair in PAIRS]
rig = rig_on(
    *LOCAL,
    MINISTACK,
    *PROFILE_PAIRS,
    *S3_PROFILE_PAIRS,
    *AZURE_PROFILE_PAIRS,
    *BESIDE_PAIRS,
    *FIXED_PARTS_PAIRS,
    *(() if TESTBENCH_PAIR.why_skipped else (TESTBENCH_PAIR,)),
)


@pytest.mark.usefixtures("short_pauses")
class TestConformance(StorageConformance):
    """The pairs are in `tests/rigs/pairs.py`."""
