"""The doctor on each profile of the strict double of S3: it names what the store lacks, and what that means."""

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from lakery_cloud.maintenance import Finding, Outcome, diagnose
from lakery_cloud.testing import S3_PROFILES, StrictS3
from tests.stores.stores import BUCKET, check_nothing_temporary, s3_storage

# Profile -> check -> words of its finding. Checks that are not named here are ok, or skipped.
FINDINGS: Mapping[str, Mapping[str, str]] = {
    "aws": {},
    "aws-versioned": {},
    "aws-locked": {"versions": "Object Lock keeps"},
    "aws-archive": {"get": "Restore it"},
    "aws-encrypted": {"put": "the settings of the storage that it demands"},
    "aws-requester-pays": {"list": "Grant"},
    "aws-slow-copy": {},
    "r2": {"tags": "x-amz-tagging", "multipart": "equal_parts", "create-only copy": "no action needed"},
    "b2": {"create-only": "conditional_writes=false", "tags": "x-amz-tagging"},
    "ceph": {"create-only": "conditional_writes=false", "create-only copy": "no action needed"},
    "minio-behind-proxy": {"head": "weak ETag"},
    "oss": {"create-only": "conditional_writes=false"},
    "minimal": {"create-only": "conditional_writes=false", "tags": "x-amz-tagging"},
    "needs-md5": {},
    "decoding": {},
    "gateway": {"put": "without etag"},
    "stripping": {"put": "did not prove it", "multipart": "without etag"},
    "portal": {"list": "without ListBucketResult", "put": "with a body"},
    "same-token": {},
    "no-token": {},
}


async def findings_on(profile: str, **settings: Any) -> tuple[dict[str, Finding], StrictS3]:
    """All findings on a profile, by their check."""
    async with StrictS3(replace(S3_PROFILES[profile], copy_seconds=0)) as server:
        server.make_bucket(BUCKET)
        async with s3_storage(server, **settings) as storage, aclosing(diagnose(storage)) as findings:
            return {finding.check: finding async for finding in findings}, server


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("profile", S3_PROFILES)
async def test_doctor_names_what_a_store_lacks(profile: str) -> None:
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
    if profile != "gateway":  # it invents deletions too
        check_nothing_temporary(server)


@pytest.mark.parametrize(
    ("profile", "settings"),
    [
        ("aws-encrypted", {"sse": "aws:kms"}),
        ("aws-requester-pays", {"requester_pays": True}),
        ("r2", {"equal_parts": True}),
        ("b2", {"conditional_writes": False}),
    ],
)
async def test_doctor_finds_nothing_once_its_advice_is_followed(profile: str, settings: dict[str, Any]) -> None:
    found, _ = await findings_on(profile, **settings)
    unusual = {check for check, finding in found.items() if finding.outcome in (Outcome.WARNING, Outcome.FAILED)}
    assert unusual <= {"tags", "create-only copy"}


FOLLOWING = {
    "aws-archive": {"copy"},
    "aws-encrypted": {"multipart"},
    "aws-requester-pays": {"get", "put", "multipart", "latency", "delete", "nothing left"},
    "gateway": {"multipart"},
    "portal": {"get", "multipart", "latency", "delete", "nothing left"},
}
"""Profile -> further checks that fail for the same reason."""
