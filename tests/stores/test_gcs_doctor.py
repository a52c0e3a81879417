"""The doctor on each profile of the strict double of Cloud Storage: it names what the store lacks, and what that means."""

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace

import pytest

from lakery_cloud import GCSStorage
from lakery_cloud.engine import requests
from lakery_cloud.maintenance import Finding, Outcome, diagnose
from lakery_cloud.testing import GCS_PROFILES, StrictGCS

# Profile -> check -> words of its finding. Checks that are not named here are ok, or skipped.
FINDINGS: Mapping[str, Mapping[str, str]] = {
    "google": {},
    "google-versioned": {},
    "google-retained": {"retention": "a retention policy of 1 day keeps objects"},
    "google-held": {"retention": "an event-based hold on each new object keeps objects"},
    "google-requester-pays": {"list": "Set user_project"},
    "google-one-change-a-second": {},
    "google-slow-copy": {},
    "google-new-errors": {},
    "google-xml-errors": {},
    "google-policy": {"put": "An organization policy refuses it"},
    "emulator-like": {"checksum": "verify", "create-only copy": "no action needed"},
    "gateway": {"put": "without generation", "multipart": "without location"},
    "redirecting": {"list": "a response 308"},
    "portal": {"list": "a page of HTML"},
    "other-host": {},
    "stripping": {"get": "without x-goog-generation", "multipart": "without location"},
    "same-token": {},
}
ALL = {"retention", "get", "put", "multipart", "latency", "delete", "versions", "nothing left"}
FOLLOWING = {
    "google-requester-pays": ALL,
    "google-policy": {"multipart"},
    "redirecting": ALL,
    "portal": ALL,
    "stripping": {"encoding"},
}
"""Profile -> further checks that fail for the same reason."""
KEPT = {
    "google": "soft delete keeps deleted objects for 7 days",
    "google-versioned": "temporary objects are deleted with their",
    "google-xml-errors": "keeps nothing of deleted objects",
}
"""Profile -> words of the finding of `versions`, which is ok."""


async def findings_on(profile: str) -> tuple[dict[str, Finding], StrictGCS]:
    """All findings on a profile, by their check."""
    seconds = GCS_PROFILES[profile].seconds_per_change / 10
    quick = replace(GCS_PROFILES[profile], seconds_per_change=seconds, rewrite_seconds=0)
    async with StrictGCS(quick) as server:
        server.buckets["bucket"] = {}
        async with (
            GCSStorage("bucket", endpoint_url=server.url, part_size=256 * 1024, max_attempts=8) as storage,
            aclosing(diagnose(storage)) as findings,
        ):
            return {finding.check: finding async for finding in findings}, server


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("profile", GCS_PROFILES)
async def test_doctor_names_what_a_store_lacks(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if GCS_PROFILES[profile].seconds_per_change:
        monkeypatch.setattr(requests, "LONGEST_PAUSE", 1.0)
    found, server = await findings_on(profile)
    expected = FINDINGS[profile]
    unusual = {
        check: f"{finding.seen}. {finding.advice}"
        for check, finding in found.items()
        if finding.outcome in (Outcome.WARNING, Outcome.FAILED)
    }
    for check, words in expected.items():
        assert words in unusual.get(check, "")
    assert unusual.keys() - FOLLOWING.get(profile, set()) == expected.keys()
    assert KEPT.get(profile, "") in found["versions"].seen
    assert not server.buckets["bucket"]
