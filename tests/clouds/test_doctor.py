"""The doctor on every local server: its findings are right, and it leaves nothing, however it ends."""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from lakery_cloud import (
    AccessDenied,
    AzureBlobStorage,
    BucketNotFound,
    CredentialsError,
    FileStorage,
    GCSStorage,
    MemoryStorage,
    ObjectStorage,
    S3Storage,
    StorageUnavailable,
)
from lakery_cloud.emulators.servers.seaweedfs import READER
from lakery_cloud.maintenance import (
    CHECKS,
    Finding,
    Outcome,
    diagnose,
    sweep,
)
from lakery_cloud.testing import (
    FaultProxy,
    Rule,
    content,
    digest_of,
)
from lakery_cloud.testing.faults import Answer
from tests.conftest import rig_on
from tests.docs.test_facts import names, rows
from tests.helpers import closed_port, write_stream
from tests.rigs.azure import AzureRig
from tests.rigs.base import CloudRig, MiB, PairRig
from tests.rigs.gcs import GCSRig
from tests.rigs.local import MemoryRig
from tests.rigs.pairs import LOCAL_PAIRS, MINISTACK, Pair
from tests.rigs.s3 import S3Rig

RCLONE = Pair("s3-rclone", lambda server: S3Rig("rclone", server), "rclone")
TITLES = {
    "FileStorage": "files",
    "S3Storage on MotoServer": "moto",
    "S3Storage on LocalStack": "LocalStack",
    "S3Storage on SeaweedFS": "SeaweedFS",
    "S3Storage on MiniStack": "MiniStack",
    "S3Storage on rclone": "rclone",
    "GCSStorage on FakeGCS": "fake-gcs-server",
    "AzureBlobStorage on Azurite": "Azurite",
}
"""Rig -> its column in docs/doctor.md."""

pairs = {pair.name: pair for pair in (*LOCAL_PAIRS, MINISTACK, RCLONE)}
server_rig = rig_on(*(pair for name, pair in pairs.items() if name not in ("memory", "gcs-strict", "gcs-composite")))
rclone_rig = rig_on(RCLONE)
provider_rig = rig_on(pairs["s3-seaweedfs"], pairs["gcs-fake"], pairs["azure-azurite"])
checking_rig = rig_on(pairs["s3-seaweedfs"], RCLONE, pairs["azure-azurite"])


async def diagnosis_of(storage: ObjectStorage[Any]) -> dict[str, Finding]:
    """All findings by their check, which come in the documented order."""
    async with storage, aclosing(diagnose(storage)) as findings:
        found = {finding.check: finding async for finding in findings}
    assert list(found) == [check for check in CHECKS if check in found]
    return found


def failed(found: Mapping[str, Finding]) -> list[str]:
    return [check for check, finding in found.items() if finding.outcome is Outcome.FAILED]


def last(found: Mapping[str, Finding]) -> Finding:
    return found[list(found)[-1]]


async def test_findings_on_each_server_are_the_documented_ones(server_rig: PairRig) -> None:
    found = await diagnosis_of(server_rig.storage(prefix="a b/ü"))
    head, *table = rows("doctor.md", "Findings on local servers", with_head=True)
    column = [cell.strip() for cell in head].index(TITLES[server_rig.name])
    documented = {row[0].strip("` "): row[column].strip("* ") for row in table}
    assert {check: str(finding.outcome) for check, finding in found.items()} == {
        check: outcome for check, outcome in documented.items() if outcome != "none"
    }
    assert all(finding.advice for finding in found.values() if finding.outcome in (Outcome.WARNING, Outcome.FAILED))
    await server_rig.check_nothing_left()


def test_every_check_is_documented() -> None:
    assert names(rows("doctor.md", "Checks")) == list(CHECKS)


async def test_memory_and_composite_uploads_pass_all_checks(fake_gcs: Any) -> None:
    assert not failed(await diagnosis_of(MemoryStorage()))
    async with GCSRig("FakeGCS", fake_gcs.endpoint_url, composite_uploads="true") as rig:
        assert not failed(await diagnosis_of(rig.storage()))
        await rig.check_nothing_left()


async def test_endpoint_that_ignores_conditions_works_as_advised(rclone_rig: S3Rig) -> None:
    advice = (await diagnosis_of(rclone_rig.storage()))["create-only"].advice
    assert advice and advice.startswith("set conditional_writes=false")
    found = await diagnosis_of(rclone_rig.storage(conditional_writes=False))
    assert {found[check].outcome for check in found if check.startswith("create-only")} == {Outcome.SKIPPED}
    async with rclone_rig.storage(conditional_writes=False) as storage:
        data = content(6 * MiB)
        for _ in range(2):
            storage_data = await write_stream(storage, data, {})
        assert await storage.read_data(storage_data) == data
    assert await rclone_rig.keys() == [digest_of(data)["content_hash"]]


async def test_read_only_key_passes_reads_and_is_advised_which_permissions_to_grant(
    seaweedfs_rig: S3Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER[1])
    found = await diagnosis_of(seaweedfs_rig.storage())
    assert failed(found) == ["put", "multipart", "delete"]
    for check, grant in (("put", "s3:PutObject"), ("multipart", "s3:PutObject"), ("delete", "s3:DeleteObject")):
        assert isinstance(found[check].error, AccessDenied)
        assert grant in str(found[check].advice)
    assert {check: found[check].seen for check in ("list", "get", "nothing left")} == {
        "list": "objects and unfinished uploads can be listed",
        "get": "reading is allowed; there is no object to read",
        "nothing left": "the checks created no objects",
    }


@pytest.mark.parametrize(
    ("denied", "expected"),
    [
        ("list", ["list"]),
        ("put", ["put"]),
        ("get", ["get"]),
        ("copy", ["copy"]),
        ("upload_part", ["multipart"]),
        ("delete", ["delete", "nothing left"]),
    ],
    ids=lambda denied: denied if isinstance(denied, str) else "",
)
async def test_right_that_is_missing_stops_no_other_check(
    provider_rig: CloudRig, denied: str, expected: list[str]
) -> None:
    if (denied, provider_rig.name) == ("delete", "AzureBlobStorage on Azurite"):
        expected = ["abort", *expected]  # it is a deletion there
    async with FaultProxy(provider_rig.server_url, [Rule(Answer(403), denied, times=None)]) as proxy:
        provider_rig.point_to(proxy.url)
        found = await diagnosis_of(provider_rig.storage())
    assert failed(found) == expected
    assert isinstance(found[expected[0]].error, AccessDenied)
    assert "Grant" in str(found[expected[0]].advice)
    assert last(found).check == "nothing left"
    if denied == "delete":
        assert "could not delete these objects in bucket " in str(last(found).advice)
        left = await provider_rig.keys()
        assert left and all("/.tmp/" in f"/{key}" for key in left)
        provider_rig.point_to(provider_rig.server_url)
        async with provider_rig.storage() as storage:  # as the message says
            assert [leftover async for leftover in sweep(storage, older_than=timedelta(0))]
    await provider_rig.check_nothing_left()


async def test_wrong_credentials_are_the_last_finding(checking_rig: CloudRig, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = base64.b64encode(b"wrong").decode()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", wrong)
    if isinstance(checking_rig, AzureRig):
        url = f"{checking_rig.server_url}/devstoreaccount1"
        storage: Any = AzureBlobStorage(
            checking_rig.bucket, account_name="devstoreaccount1", account_key=wrong, endpoint_url=url
        )
    else:
        storage = checking_rig.storage()
    found = await diagnosis_of(storage)
    assert (failed(found), last(found).check) == (["credentials"], "credentials")
    assert isinstance(last(found).error, CredentialsError)
    source = "account_key" if isinstance(checking_rig, AzureRig) else "AWS_ACCESS_KEY_ID in the environment"
    assert source in last(found).seen
    assert wrong not in str(found)


async def test_missing_bucket_is_the_last_finding(cloud_rig: CloudRig) -> None:
    found = await diagnosis_of(cloud_rig.elsewhere())
    assert (failed(found), last(found).check) == (["bucket"], "bucket")
    assert isinstance(last(found).error, BucketNotFound)


async def test_missing_folder_is_the_last_finding(tmp_path: Path) -> None:
    found = await diagnosis_of(FileStorage(tmp_path / "nowhere", create=False))
    assert (list(found), failed(found)) == (["bucket"], ["bucket"])
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("kind", [S3Rig, GCSRig, AzureRig])
async def test_closed_port_is_the_only_finding(kind: type[CloudRig]) -> None:
    with closed_port() as url:
        found = await diagnosis_of(kind.storage_at(url))
    assert (list(found), failed(found)) == (["reach"], ["reach"])
    assert isinstance(found["reach"].error, StorageUnavailable)


@pytest.mark.parametrize(
    "storage",
    [
        S3Storage("bucket", endpoint_url="http://127.0.0.1:9", region="us-east-1"),
        AzureBlobStorage("container"),
        GCSStorage("bucket", token="google_default"),
    ],
    ids=["s3", "azure", "gcs"],
)
async def test_no_credentials_are_the_only_finding(storage: ObjectStorage[Any]) -> None:
    found = await diagnosis_of(storage)
    assert (list(found), failed(found)) == (["credentials"], ["credentials"])
    assert found["credentials"].advice


async def test_store_that_only_fails_is_no_proof_of_credentials(seaweedfs_rig: S3Rig) -> None:
    async with FaultProxy(seaweedfs_rig.server_url, [Rule(Answer(500), times=None)]) as proxy:
        seaweedfs_rig.point_to(proxy.url)
        found = await diagnosis_of(seaweedfs_rig.storage(max_attempts=1))
    assert {"credentials", "bucket"}.isdisjoint(found)
    assert {"list", "put", "get", "multipart", "delete"} <= set(failed(found))
    assert isinstance(found["put"].error, StorageUnavailable)


async def test_half_of_credentials_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    found = await diagnosis_of(S3Storage("bucket", endpoint_url="http://127.0.0.1:9", region="us-east-1"))
    assert (list(found), failed(found)) == (["credentials"], ["credentials"])
    assert "AWS_SECRET_ACCESS_KEY" in str(found["credentials"].advice)


async def test_clock_that_is_wrong_is_a_warning(provider_rig: CloudRig) -> None:
    for hours, outcome in ((-1, Outcome.WARNING), (1, Outcome.WARNING), (0, Outcome.OK)):
        date = format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)
        rule = Rule(Answer(403, headers={"Date": date}), "has_bucket")
        async with FaultProxy(provider_rig.server_url, [rule]) as proxy:
            provider_rig.point_to(proxy.url)
            async with provider_rig.storage() as storage, aclosing(diagnose(storage)) as findings:
                _, clock = await anext(findings), await anext(findings)
        assert (clock.check, clock.outcome) == ("clock", outcome)
        assert clock.measured["skew_seconds"] == pytest.approx(abs(hours) * 3600, abs=60)


@pytest.fixture
async def memory_rig() -> AsyncIterator[MemoryRig]:
    yield MemoryRig()


async def test_diagnosis_that_is_closed_early_leaves_nothing(memory_rig: MemoryRig) -> None:
    for wanted in range(1, len(CHECKS)):
        storage = memory_rig.storage()
        async with storage, aclosing(diagnose(storage)) as findings:
            for _ in range(wanted):
                await anext(findings, None)
        await memory_rig.check_nothing_left()


async def test_diagnosis_that_is_cancelled_anywhere_leaves_nothing(memory_rig: MemoryRig) -> None:
    is_done = False
    turns = 0
    while not is_done:
        turns += 7
        task = asyncio.create_task(diagnosis_of(memory_rig.storage()))
        for _ in range(turns):
            await asyncio.sleep(0)
        is_done = task.done()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await memory_rig.check_nothing_left()
    assert turns > 7


async def test_diagnosis_that_is_closed_early_leaves_nothing_on_a_server(provider_rig: CloudRig) -> None:
    for check in ("create-only race", "multipart", "throughput"):
        storage = provider_rig.storage()
        async with storage, aclosing(diagnose(storage)) as findings:
            async for finding in findings:
                if finding.check == check:
                    break
        await provider_rig.check_nothing_left()
