"""The profiles of the strict double of S3 are tables of documented differences, and each has its tests."""

import pytest

from lakery_cloud.testing import S3_PROFILES, StorageConformance
from tests.rigs.s3_profiles import S3_PROFILE_PAIRS


@pytest.mark.parametrize("name", S3_PROFILES)
def test_every_difference_has_a_source_and_a_consequence(name: str) -> None:
    profile = S3_PROFILES[name]
    assert profile.differences or name == "aws"
    for difference in profile.differences:
        assert all(difference), difference


def test_tests_of_profiles_are_in_the_suite() -> None:
    for pair in S3_PROFILE_PAIRS:
        assert pair.only
        assert all(hasattr(StorageConformance, name) for name in pair.only)
        assert pair.cannot.keys() <= pair.only
