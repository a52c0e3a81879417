"""The doctor on each profile of the double of Azure accounts: it names what the account lacks, and what that means."""

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace

import pytest

from lakery_cloud.emulators import Azurite
from lakery_cloud.maintenance import Outcome, diagnose
from lakery_cloud.testing import AZURE_PROFILES
from tests.stores.azure_store import azure_store

# Profile -> check -> words of its finding. Checks that are not named here are ok, or skipped.
FINDINGS: Mapping[str, Mapping[str, str]] = {
    "azure": {},
    "immutable": {"retention": "a retention policy"},
    "legal-hold": {"retention": "a legal hold"},
    "versioned": {},
    "soft-delete": {},
    "archive": {},
    "slow-copy": {},
    "no-crc64": {},
    "weak-etags": {"head": "weak ETag"},
    "cdn": {"get": "without Content-Range"},
    "sas-without-delete": {"abort": "delete", "delete": "Grant", "nothing left": "could not delete these objects"},
    "throttling": {},
    "portal": {"reach": "no proxy answers in its place"},
    "gateway": {
        "put": "without etag",
        "multipart": "without etag",
        "nothing left": "could not delete these objects",
    },
    "same-marker": {"list": "does not end", "abort": "does not end", "nothing left": "does not end"},
}


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("profile", AZURE_PROFILES)
async def test_doctor_names_what_an_account_lacks(azurite: Azurite, profile: str) -> None:
    account = replace(AZURE_PROFILES[profile], copy_seconds=0)
    async with azure_store(azurite, account) as store, aclosing(diagnose(store.storage)) as findings:
        unusual = {
            finding.check: f"{finding.seen}. {finding.advice}"
            async for finding in findings
            if finding.outcome in (Outcome.WARNING, Outcome.FAILED)
        }
        if not {"delete", "nothing left"} & unusual.keys():
            assert await store.all_keys() == []
            assert store.double.kept_versions(store.container.container_name) == []
    expected = FINDINGS[profile]
    assert unusual.keys() == expected.keys()
    for check, words in expected.items():
        assert words in unusual[check]


@pytest.mark.usefixtures("short_pauses")
async def test_doctor_says_that_versions_stay(azurite: Azurite) -> None:
    """An account with soft delete that does not allow to delete versions for good."""
    profile = replace(AZURE_PROFILES["soft-delete"], purges=False)
    async with azure_store(azurite, profile) as store, aclosing(diagnose(store.storage)) as findings:
        found = {finding.check: finding async for finding in findings}
    assert found["versions"].outcome is Outcome.WARNING
    assert "allowPermanentDelete" in (found["versions"].advice or "")
    assert found["nothing left"].outcome is Outcome.OK
