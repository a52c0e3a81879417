"""Lifecycle rules in buckets: ours are set once, other rules stay, and no content expires."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from lakery_cloud import (
    AccessDenied,
    BucketNotFound,
    ConfigError,
    StorageUnavailable,
)
from lakery_cloud.engine.lifecycle import ATTEMPTS
from lakery_cloud.maintenance import apply_lifecycle, lifecycle_rules
from lakery_cloud.testing import (
    Exchange,
    FaultProxy,
    Rule,
    ScriptedProxy,
)
from lakery_cloud.testing.faults import Answer, SwallowAnswer
from tests.conftest import rig_on
from tests.helpers import proxy_before, scripted_proxy_before
from tests.rigs.azure import AzureRig
from tests.rigs.base import CloudRig
from tests.rigs.gcs import GCSRig
from tests.rigs.pairs import LOCAL_PAIRS, params
from tests.rigs.s3 import S3Rig

# fake-gcs-server forgets rules: see `test_store_that_forgets_rules_is_found_out`.
keeping_rules = pytest.mark.parametrize(
    "cloud_rig",
    params(pair for pair in LOCAL_PAIRS if pair.name in ("s3-seaweedfs", "gcs-strict")),
    indirect=True,
)
s3_rig = rig_on(*(pair for pair in LOCAL_PAIRS if pair.name == "s3-seaweedfs"))

THEIRS: dict[str, list[Any]] = {
    "s3": [
        {
            "ID": "theirs é",
            "Status": "Disabled",
            "Filter": {"And": {"Prefix": "p/", "Tags": [{"Key": "k", "Value": "v"}]}},
            "Transitions": [{"Days": 30, "StorageClass": "GLACIER"}],
            "Expiration": {"Days": 365},
        },
        {
            "ID": "older versions",
            "Status": "Enabled",
            "Filter": {"Prefix": "x/.tmp/"},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
        },
        {
            "ID": "at a date",
            "Status": "Enabled",
            "Filter": {"Prefix": "q/"},
            "Expiration": {"Date": datetime(2035, 1, 1, tzinfo=UTC)},
        },
    ],
    "gs": [
        {
            "action": {"type": "SetStorageClass", "storageClass": "NEARLINE"},
            "condition": {"matchesPrefix": ["x/.tmp/"]},
        },
        {"action": {"type": "Delete"}, "condition": {"age": 9, "isLive": False, "matchesPrefix": ["x/.tmp/"]}},
        {"action": {"type": "Delete"}, "condition": {"age": 9, "matchesPrefix": ["p/", "x/.tmp/"]}},
        {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 1}},
    ],
}
WRONG = (
    '<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Rule><ID>lakery-cloud temporary keys below '
    "/x</ID><Status>Enabled</Status>{}<Expiration><Days>7</Days></Expiration></Rule></LifecycleConfiguration>"
)


pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.fixture
async def faults(cloud_rig: CloudRig) -> AsyncIterator[FaultProxy]:
    async with proxy_before(cloud_rig) as proxy:
        yield proxy


def ours(rig: CloudRig, *, prefix: str = "x", days: int = 7) -> list[Any]:
    (rules,) = lifecycle_rules(rig.storage(prefix=prefix), days=days).values()
    return list(rules)


async def shown(rig: CloudRig) -> dict[str, Any]:
    """Return the lifecycle rules of the bucket, without fields that change with each response."""
    if isinstance(rig, S3Rig):
        answer = await rig._client.get_bucket_lifecycle_configuration(Bucket=rig.bucket)
        return {name: value for name, value in answer.items() if name != "ResponseMetadata"}
    assert isinstance(rig, GCSRig)
    _, answer = await rig._call("GET", rig._bucket_url())
    return {"Rules": answer.get("lifecycle", {}).get("rule", [])}


async def set_theirs(rig: CloudRig) -> list[Any]:
    """Set rules of another program."""
    rules = THEIRS[rig.storage_class.url_scheme]
    if isinstance(rig, S3Rig):
        await rig._client.put_bucket_lifecycle_configuration(
            Bucket=rig.bucket,
            LifecycleConfiguration={"Rules": rules},
            TransitionDefaultMinimumObjectSize="varies_by_storage_class",
        )
    else:
        assert isinstance(rig, GCSRig)
        await rig._call("PATCH", rig._bucket_url(), json={"lifecycle": {"rule": rules}})
    return rules


@pytest.mark.case("56")
@keeping_rules
async def test_rules_are_set_once(cloud_rig: CloudRig, faults: FaultProxy) -> None:
    async with cloud_rig.storage(prefix="x") as storage:
        assert await apply_lifecycle(storage)
        assert (await shown(cloud_rig))["Rules"] == ours(cloud_rig)
        so_far = len(faults.exchanges)
        assert not await apply_lifecycle(storage)
    assert [exchange.method for exchange in faults.exchanges[so_far:]] == ["GET"]
    changes = [exchange for exchange in faults.exchanges if exchange.method in ("PUT", "PATCH")]
    assert len(changes) == 1


@pytest.mark.parametrize(
    "cloud_rig", params(pair for pair in LOCAL_PAIRS if pair.name == "s3-seaweedfs"), indirect=True
)
async def test_store_without_versions_gets_rules_without_them(cloud_rig: CloudRig, faults: FaultProxy) -> None:
    refusal = Answer(400, "InvalidArgument", "NoncurrentVersionExpiration is not supported")
    faults.arm(Rule(refusal, "put_bucket_lifecycle_configuration"))
    theirs = await set_theirs(cloud_rig)
    async with cloud_rig.storage(prefix="x") as storage:
        assert await apply_lifecycle(storage)
    expected = [
        {name: rule[name] for name in rule if name != "NoncurrentVersionExpiration"} for rule in ours(cloud_rig)
    ]
    assert (await shown(cloud_rig))["Rules"] == [*theirs, *expected]


@keeping_rules
@pytest.mark.parametrize("prefix", ["", "a b/%41/é😀"])
async def test_rules_of_any_prefix_are_found_again(cloud_rig: CloudRig, prefix: str) -> None:
    async with cloud_rig.storage(prefix=prefix) as storage:
        assert await apply_lifecycle(storage)
        assert not await apply_lifecycle(storage)
    assert (await shown(cloud_rig))["Rules"] == ours(cloud_rig, prefix=prefix)


@keeping_rules
async def test_rules_of_others_stay_to_the_letter(cloud_rig: CloudRig) -> None:
    theirs = await set_theirs(cloud_rig)
    before = await shown(cloud_rig)
    assert before["Rules"] == theirs, "the server must keep what this test is about"
    async with cloud_rig.storage(prefix="x") as storage, cloud_rig.storage(prefix="x/y") as other:
        assert await apply_lifecycle(storage)
        assert await apply_lifecycle(other)
        assert await apply_lifecycle(storage, days=3)
    expected = [*theirs, *ours(cloud_rig, prefix="x/y"), *ours(cloud_rig, days=3)]
    assert await shown(cloud_rig) == {**before, "Rules": expected}


@keeping_rules
async def test_missing_bucket_is_bucket_not_found(cloud_rig: CloudRig) -> None:
    async with cloud_rig.elsewhere() as storage:
        with pytest.raises(BucketNotFound, match=f"'{storage.keys.bucket}'"):
            await apply_lifecycle(storage)


@keeping_rules
@pytest.mark.parametrize(("request_number", "change"), [(1, False), (2, False), (3, True)], ids=["read", "list", "set"])
async def test_denied_request_names_the_right(
    cloud_rig: CloudRig, faults: FaultProxy, request_number: int, change: bool
) -> None:
    rights = {
        "s3": ("s3:GetLifecycleConfiguration", "s3:ListBucket", "s3:PutLifecycleConfiguration"),
        "gs": ("storage.buckets.get", "storage.objects.list", "storage.buckets.update"),
    }
    faults.arm(Rule(Answer(403), nth=request_number))
    async with cloud_rig.storage(prefix="x") as storage:
        with pytest.raises(AccessDenied, match=rights[cloud_rig.storage_class.url_scheme][request_number - 1]):
            await apply_lifecycle(storage)
    assert (faults.exchanges[-1].method in ("PUT", "PATCH")) == change


@keeping_rules
async def test_success_whose_answer_was_lost_is_success(cloud_rig: CloudRig, faults: FaultProxy) -> None:
    await set_theirs(cloud_rig)
    faults.arm(Rule(SwallowAnswer(), nth=3))
    async with cloud_rig.storage(prefix="x") as storage:
        assert await apply_lifecycle(storage)
    assert faults.exchanges[2].method in ("PUT", "PATCH")
    theirs = THEIRS[cloud_rig.storage_class.url_scheme]
    assert (await shown(cloud_rig))["Rules"] == [*theirs, *ours(cloud_rig)]


@keeping_rules
async def test_content_of_a_storage_in_the_temporary_folder_does_not_expire(
    cloud_rig: CloudRig, faults: FaultProxy
) -> None:
    key = f"x/.tmp/{'0' * 64}"
    await cloud_rig.put(key, b"content of a storage whose prefix is x/.tmp")
    async with cloud_rig.storage(prefix="x") as storage:
        await cloud_rig.put(storage.keys.temporary().key, b"temporary")
        with pytest.raises(ConfigError, match=f"'{key}' in bucket .* is not temporary, but would expire"):
            await apply_lifecycle(storage)
        assert {exchange.method for exchange in faults.exchanges} == {"GET"}
        await cloud_rig.delete(key)
        assert await apply_lifecycle(storage)


async def test_concurrent_changes_on_cloud_storage_lose_no_rules(strict_rig: GCSRig) -> None:
    prefixes = [f"x{number}" for number in range(ATTEMPTS - 1)]  # in each round at least one gets through
    storages = [strict_rig.storage(prefix=prefix) for prefix in prefixes]
    assert all(await asyncio.gather(*map(apply_lifecycle, storages)))
    for storage in storages:
        await storage.aclose()
    rules = (await shown(strict_rig))["Rules"]
    assert len(rules) == len(prefixes)
    assert all(rule in rules for prefix in prefixes for rule in ours(strict_rig, prefix=prefix))


async def test_bucket_that_changes_before_each_attempt_is_unavailable(strict_rig: GCSRig) -> None:
    # The first change is the third request; later attempts read the rules before it.
    rules = [Rule(Answer(412), nth=1 + 2 * number) for number in range(1, ATTEMPTS + 1)]
    async with proxy_before(strict_rig, *rules), strict_rig.storage(prefix="x") as storage:
        with pytest.raises(StorageUnavailable, match=f"after {ATTEMPTS} attempts: .* another client changes them"):
            await apply_lifecycle(storage)
    assert (await shown(strict_rig))["Rules"] == []


@pytest.mark.parametrize("cloud_rig", params(pair for pair in LOCAL_PAIRS if pair.name == "gcs-fake"), indirect=True)
async def test_store_that_forgets_rules_is_found_out(cloud_rig: CloudRig) -> None:
    async with cloud_rig.storage(prefix="x") as storage:
        with pytest.raises(StorageUnavailable, match="not among those of the bucket"):
            await apply_lifecycle(storage)


class Scripted:
    """A proxy before S3 that answers requests for the rules by itself, once some have been set."""

    def __init__(self, proxy: ScriptedProxy) -> None:
        self._proxy = proxy

    def show(self, body: str, *, times: int) -> None:
        self._proxy.answer(self._is_look_after_change, status=200, body=body.encode(), times=times)

    def changes(self) -> list[str]:
        return [each.method for each in self._proxy.exchanges if each.method != "GET"]

    def _is_look_after_change(self, exchange: Exchange) -> bool:
        return exchange.operation == "get_bucket_lifecycle_configuration" and bool(self.changes())


@pytest.fixture
async def scripted(s3_rig: S3Rig) -> AsyncIterator[Scripted]:
    async with scripted_proxy_before(s3_rig) as proxy:
        yield Scripted(proxy)


NO_RULES = '<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></LifecycleConfiguration>'


async def test_rules_on_s3_may_show_later(s3_rig: S3Rig, scripted: Scripted) -> None:
    scripted.show(NO_RULES, times=ATTEMPTS - 1)
    async with s3_rig.storage(prefix="x") as storage:
        assert await apply_lifecycle(storage)


async def test_rules_on_s3_that_never_show_are_an_error(s3_rig: S3Rig, scripted: Scripted) -> None:
    scripted.show(NO_RULES, times=ATTEMPTS)
    async with s3_rig.storage(prefix="x") as storage:
        with pytest.raises(StorageUnavailable, match="not among those of the bucket"):
            await apply_lifecycle(storage)
    assert scripted.changes() == ["PUT"]


@pytest.mark.parametrize("kept", ["", "<Filter/>", "<Filter><Prefix>x/</Prefix></Filter>", "<Prefix></Prefix>"])
@pytest.mark.parametrize("has_others", [False, True], ids=["alone", "with others"])
async def test_store_that_drops_filters_gets_its_earlier_rules_back(
    s3_rig: S3Rig, scripted: Scripted, kept: str, has_others: bool
) -> None:
    before = await set_theirs(s3_rig) if has_others else []
    scripted.show(WRONG.format(kept), times=1)
    async with s3_rig.storage(prefix="x") as storage:
        with pytest.raises(
            ConfigError, match="does not keep the filters of lifecycle rules.* the earlier rules were restored"
        ):
            await apply_lifecycle(storage)
    assert scripted.changes() == ["PUT", "PUT" if has_others else "DELETE"]
    if has_others:
        assert (await shown(s3_rig))["Rules"] == before
    else:
        with pytest.raises(s3_rig._client.exceptions.ClientError, match="NoSuchLifecycleConfiguration"):
            await shown(s3_rig)


async def test_rules_on_azure_can_only_be_printed(azure_rig: AzureRig) -> None:
    async with azure_rig.storage(prefix="x") as storage:
        with pytest.raises(ConfigError, match="az storage account management-policy create --account-name devstore"):
            await apply_lifecycle(storage)
