"""The profiles of the strict double of Cloud Storage are tables of documented differences, and each has its tests."""

from dataclasses import fields

import pytest

from lakery_cloud.testing import GCS_PROFILES, GCSProfile
from lakery_cloud.testing.doubles.gcs_profiles import CONSEQUENCES


@pytest.mark.parametrize("name", GCS_PROFILES)
def test_every_difference_has_a_source_and_a_consequence(name: str) -> None:
    profile = GCS_PROFILES[name]
    assert profile.differences
    for difference in profile.differences:
        assert all(difference), difference
    assert {difference.feature for difference in profile.differences} == profile.sources.keys()


def test_every_attribute_has_a_consequence() -> None:
    assert CONSEQUENCES.keys() == {each.name for each in fields(GCSProfile)} - {"name", "title", "sources"}
