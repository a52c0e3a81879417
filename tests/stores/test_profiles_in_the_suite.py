"""The conformance suite runs on each profile of each cloud, wholly, in part or as on a store that fails; or a table says why not."""

from collections.abc import Mapping

import pytest

from lakery_cloud.testing import AZURE_PROFILES, GCS_PROFILES, S3_PROFILES, StorageConformance
from tests.rigs.azure_profiles import AZURE_NOT_IN_THE_SUITE, AZURE_PROFILE_PAIRS
from tests.rigs.beside import BESIDE_PAIRS
from tests.rigs.failing import FAILING_PAIRS, SAVE_NOTHING
from tests.rigs.fixed_parts import FIXED_PARTS_PAIRS
from tests.rigs.pairs import CLOUDS, GCS_NOT_IN_THE_SUITE, PROFILE_PAIRS
from tests.rigs.s3_profiles import S3_NOT_IN_THE_SUITE, S3_PROFILE_PAIRS

PAIRS = (*PROFILE_PAIRS, *S3_PROFILE_PAIRS, *AZURE_PROFILE_PAIRS, *FAILING_PAIRS)
PROFILES: Mapping[str, tuple[Mapping[str, object], Mapping[str, str]]] = {
    "s3": (S3_PROFILES, S3_NOT_IN_THE_SUITE),
    "gcs": (GCS_PROFILES, {"google": "the profile of gcs-strict", **GCS_NOT_IN_THE_SUITE}),
    "azure": (AZURE_PROFILES, AZURE_NOT_IN_THE_SUITE),
}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_profile_is_in_the_suite_or_the_table_says_why_not(cloud: str) -> None:
    profiles, reasons = PROFILES[cloud]
    names = [pair.name.removeprefix(f"{cloud}-") for pair in PAIRS if pair.cloud == cloud]
    assert len(names) == len(set(names))
    assert sorted([*names, *reasons]) == sorted(profiles)
    assert all(reasons.values())


def test_tests_of_pairs_are_in_the_suite() -> None:
    for pair in (*PAIRS, *BESIDE_PAIRS, *FIXED_PARTS_PAIRS):
        assert all(hasattr(StorageConformance, name) for name in (*pair.only, *pair.cannot)), pair.name
    assert {pair.name for pair in FAILING_PAIRS} >= SAVE_NOTHING


@pytest.mark.parametrize("cloud", CLOUDS)
def test_suite_runs_with_parts_that_do_not_grow(cloud: str) -> None:
    assert [pair for pair in FIXED_PARTS_PAIRS if pair.cloud == cloud and pair.only]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_suite_runs_with_temporary_keys_in_another_bucket(cloud: str) -> None:
    assert [pair for pair in BESIDE_PAIRS if pair.cloud == cloud and pair.only]
