"""The profiles of the double of Azure are tables of documented differences."""

import pytest

from lakery_cloud.testing import AZURE_PROFILES


@pytest.mark.parametrize("name", AZURE_PROFILES)
def test_every_difference_has_a_source_and_a_consequence(name: str) -> None:
    profile = AZURE_PROFILES[name]
    assert profile.differences or name == "azure"
    for difference in profile.differences:
        assert all(difference), difference
