"""Responses that are not what they should be: the same ones on each cloud, from a proxy before its server."""

from collections.abc import Mapping

import pytest

from lakery_cloud import StorageUnavailable
from lakery_cloud.engine.writer import MAX_REFUSALS
from lakery_cloud.testing import Rule, content, digest_of
from lakery_cloud.testing.faults import Answer
from tests.helpers import proxy_before, write_stream
from tests.rigs.base import CloudRig
from tests.rigs.pairs import LOCAL_PAIRS, PROFILE_PAIRS, params

pytestmark = pytest.mark.usefixtures("short_pauses")

one_server_a_cloud = pytest.mark.parametrize(
    "cloud_rig",
    params(pair for pair in (*PROFILE_PAIRS, *LOCAL_PAIRS) if pair.name in ("s3-aws", "gcs-strict", "azure-azurite")),
    indirect=True,
)
both_senders = pytest.mark.parametrize("fast_lane", [True, False], ids=["hot requests", "SDK"])

PROOFS = {"ETag": '"1"', "x-ms-request-id": "0", "x-goog-generation": "1", "Content-Type": "text/plain"}
"""What proves on some cloud that a response comes from the store."""
DATA = content(100)


@pytest.mark.case("49")
@one_server_a_cloud
@both_senders
@pytest.mark.parametrize(
    "value",
    [
        "bytes 0-3/*",
        "bytes a-b/*",
        "bytes 0-3",
        "bytes 3-0/100",
        "bytes 0-3/3",
        "items 0-3/100",
        "*",
        "9" * 5000,
        f"bytes 0-3/{'9' * 5000}",
        f"bytes 0-{'9' * 5000}/5",
    ],
    ids=lambda value: value[:16],
)
async def test_malformed_content_range_is_named(cloud_rig: CloudRig, value: str, fast_lane: bool) -> None:
    await cloud_rig.put(digest_of(DATA)["content_hash"], DATA)
    answer = Answer(206, headers={**PROOFS, "Content-Range": value}, body="0123")
    async with (
        proxy_before(cloud_rig, Rule(answer, "get", times=None)),
        cloud_rig.storage(fast_lane=fast_lane, max_attempts=1) as storage,
    ):
        transport = await storage.transport()
        with pytest.raises(StorageUnavailable, match="(?i)content-?range|can't be read"):
            async with transport.get(storage.keys.content(digest_of(DATA)["content_hash"]), start=0, stop=4) as body:
                assert [chunk async for chunk in body.chunks] == []


SIZES: Mapping[str, str] = {"no number": "many", "negative": "-1", "fraction": "1.5", "endless": "9" * 5000}


@pytest.mark.case("49")
@one_server_a_cloud
@both_senders
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
async def test_malformed_size_is_an_error_of_ours(cloud_rig: CloudRig, size: str, fast_lane: bool) -> None:
    await cloud_rig.put(digest_of(DATA)["content_hash"], DATA)
    headers = {**PROOFS, "x-goog-stored-content-length": size, "Content-Range": f"bytes 0-3/{size}"}
    async with (
        proxy_before(cloud_rig, Rule(Answer(206, headers=headers, body="0123"), "get", times=None)),
        cloud_rig.storage(fast_lane=fast_lane, max_attempts=1) as storage,
    ):
        with pytest.raises(StorageUnavailable):
            await storage.read_data(storage.storage_data_of(digest_of(DATA)))


@pytest.mark.case("54")
@one_server_a_cloud
@both_senders
@pytest.mark.parametrize("operation", ["put", "copy"])
async def test_refused_condition_without_an_object_is_quoted(
    cloud_rig: CloudRig, operation: str, fast_lane: bool
) -> None:
    data = content(cloud_rig.part_size + 1) if operation == "copy" else DATA
    code = "TargetConditionNotMet" if cloud_rig.storage_class.__name__ == "AzureBlobStorage" else None
    refusal = Answer(412, code, "An organization policy forbids it.")
    async with (
        proxy_before(cloud_rig, Rule(refusal, operation, times=None)) as proxy,
        cloud_rig.storage(fast_lane=fast_lane) as storage,
    ):
        with pytest.raises(StorageUnavailable, match="An organization policy forbids it"):
            await write_stream(storage, data)
        assert len(proxy.exchanges_of(operation)) <= MAX_REFUSALS
    await cloud_rig.check_nothing_left()
