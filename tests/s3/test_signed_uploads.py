"""Uploads and copies that lakery-cloud signs itself: they need no SDK, and have time where the store needs it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lakery_cloud.engine.keys import Address
from lakery_cloud.http.exchange import BufferedResponse, Request, UnsupportedResponse
from lakery_cloud.providers.s3.answers import Begun, begun_upload, completed_object
from lakery_cloud.providers.s3.settings import GiB
from lakery_cloud.testing import Exchange, content, digest_of, stream_of
from lakery_cloud.testing.faults import Delay
from tests.conftest import rig_on
from tests.helpers import is_by_the_sdk, scripted_proxy_before, write, write_stream
from tests.rigs.pairs import PROFILE_PAIRS
from tests.rigs.s3 import S3Rig
from tests.s3.test_requests import is_begin, is_complete, is_copy, is_part

s3_rig = rig_on(*(pair for pair in PROFILE_PAIRS if pair.name == "s3-aws"))
KEY = Address("bucket", "key")
SPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
BEGUN = (
    f"<InitiateMultipartUploadResult {SPACE}><Key>key</Key><UploadId>id&lt;1</UploadId></InitiateMultipartUploadResult>"
)
COMPLETED = (
    f"<CompleteMultipartUploadResult {SPACE}><ETag>&quot;e-2&quot;</ETag><ChecksumCRC32C>AAAAAA==</ChecksumCRC32C>"
    "<ChecksumType>FULL_OBJECT</ChecksumType></CompleteMultipartUploadResult>"
)


def is_part_copy(exchange: Exchange) -> bool:
    return is_part(exchange) and "x-amz-copy-source" in exchange.headers


def small_copies(rig: S3Rig) -> dict[str, Any]:
    """Settings with which each object is copied in parts."""
    limits = rig.storage().settings.limits
    return {"limits": replace(limits, max_copy_size=rig.part_size, copy_part_size=rig.part_size)}


@pytest.mark.parametrize("is_known", [False, True], ids=["unknown hash", "known hash"])
@pytest.mark.parametrize("is_in_parts", [False, True], ids=["one copy", "copies of parts"])
async def test_no_request_of_a_stream_is_the_sdk_s(s3_rig: S3Rig, is_known: bool, is_in_parts: bool) -> None:
    data = content(2 * s3_rig.part_size + 1)
    options = small_copies(s3_rig) if is_in_parts else {}
    stream = stream_of([data], expected=digest_of(data) if is_known else None)
    async with scripted_proxy_before(s3_rig) as proxy, s3_rig.storage(fast_lane=True, **options) as storage:
        written = await storage.write_data_stream(stream, stream.get_digest, {"tag": "a b"})
        assert await storage.read_data(written) == data
        assert any(map(is_complete, proxy.exchanges))
        assert not [exchange for exchange in proxy.exchanges if is_by_the_sdk(exchange)]


@pytest.mark.case("14")
@pytest.mark.parametrize("is_warm", [False, True], ids=["new connection", "used connection"])
async def test_upload_that_was_begun_twice_is_left_once(s3_rig: S3Rig, is_warm: bool) -> None:
    """A request over a connection that the server has closed meanwhile is sent again at once, without a pause."""
    data = content(2 * s3_rig.part_size)
    async with scripted_proxy_before(s3_rig) as proxy, s3_rig.storage(fast_lane=True) as storage:
        if is_warm:
            await write(storage, b"small")
        lost = proxy.swallow(is_begin)
        assert await storage.read_data(await write_stream(storage, data)) == data
        assert lost.fired == 1
        assert sum(map(is_begin, proxy.exchanges)) == 2
    await s3_rig.check_nothing_temporary()


@pytest.mark.case("57")
@pytest.mark.parametrize("fast_lane", [True, False], ids=["hot requests", "SDK"])
@pytest.mark.parametrize(
    ("matches", "is_in_parts"),
    [(is_copy, False), (is_part_copy, True), (is_complete, False)],
    ids=["copy", "part", "end"],
)
async def test_request_on_which_a_store_works_for_long_is_sent_once(
    s3_rig: S3Rig, matches: Callable[[Exchange], bool], is_in_parts: bool, fast_lane: bool
) -> None:
    data = content(2 * s3_rig.part_size)
    options = small_copies(s3_rig) if is_in_parts else {}
    async with scripted_proxy_before(s3_rig) as proxy:
        slow = proxy.script(matches, Delay(1.5))
        settings: dict[str, Any] = {"fast_lane": fast_lane, "read_timeout": 1, "copy_timeout": 30 * GiB / len(data)}
        async with s3_rig.storage(**settings, **options) as storage:
            assert await storage.read_data(await write_stream(storage, data)) == data
        assert slow.fired == 1
        sent = [exchange.target for exchange in proxy.exchanges if matches(exchange)]
        assert len(sent) == len(set(sent))


def begun(body: str, encoding: str = "utf-8", **headers: str) -> Begun:
    request = Request("POST", "key", {}, attempts=1)
    return begun_upload(request, BufferedResponse(200, headers, body.encode(encoding)))


def test_begin_says_what_the_store_compares_and_whether_there_may_be_another_upload() -> None:
    checksum = {"x-amz-checksum-type": "FULL_OBJECT"}
    assert begun(BEGUN) == Begun("id<1", has_whole_checksum=False, is_repeated=False)
    assert begun(BEGUN, **checksum).has_whole_checksum
    again = Request("POST", "key", {}, attempts=2)
    assert begun_upload(again, BufferedResponse(200, {}, BEGUN.encode())).is_repeated


def completed(body: str, **headers: str) -> Any:
    return completed_object(KEY, 5, "AAAAAA==", BufferedResponse(200, headers, body.encode()))


def test_completion_proves_its_object() -> None:
    proved = completed(COMPLETED, **{"x-amz-version-id": "v"})
    assert (proved.address, proved.size, proved.version, proved.version_id) == (KEY, 5, '"e-2"', "v")
    assert completed("\n  " + COMPLETED).version == '"e-2"'  # white space, sent while the store works
    assert completed(COMPLETED.replace("FULL_OBJECT", "COMPOSITE"), **{"x-amz-version-id": "v"}) == "v"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<InitiateMultipartUploadResult", "<!DOCTYPE a><InitiateMultipartUploadResult"),
        ("UploadId", "ID"),
        ("</InitiateMultipartUploadResult>", ""),
        ("id&lt;1", ""),
        ("<UploadId>", "<UploadId>2</UploadId><UploadId>"),
        (BEGUN, ""),
    ],
)
def test_response_that_proves_no_upload_is_refused(old: str, new: str) -> None:
    with pytest.raises(UnsupportedResponse):
        begun(BEGUN.replace(old, new))


def test_response_in_an_encoding_that_could_hide_a_document_type_is_refused() -> None:
    with pytest.raises(UnsupportedResponse, match="without XML"):
        begun(f"<!DOCTYPE a>{BEGUN}", "utf-16")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<CompleteMultipartUploadResult", "<!DOCTYPE a><CompleteMultipartUploadResult"),
        ("</CompleteMultipartUploadResult>", ""),
        ("&quot;e-2&quot;", ""),
        ("<ETag>", "<ETag>f</ETag><ETag>"),
        ("<ChecksumType>", "<ChecksumType>COMPOSITE</ChecksumType><ChecksumType>"),
        (COMPLETED, ""),
    ],
)
def test_response_that_proves_no_object_is_refused(old: str, new: str) -> None:
    with pytest.raises(UnsupportedResponse):
        completed(COMPLETED.replace(old, new))
