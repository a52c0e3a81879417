"""CopyObject as lakery-cloud sends it itself: its source, and which responses prove a copy."""

from urllib.parse import unquote

import pytest

from lakery_cloud import LakeryCloudError
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import ObjectInfo, Signal
from lakery_cloud.http.exchange import BufferedResponse, UnsupportedResponse
from lakery_cloud.providers.s3.answers import copied_object
from tests.conftest import rig_on
from tests.helpers import proxy_before
from tests.rigs.pairs import PROFILE_PAIRS
from tests.rigs.s3 import S3Rig

s3_rig = rig_on(*(pair for pair in PROFILE_PAIRS if pair.name == "s3-aws"))
ACCESS_POINT = "arn:aws:s3:us-east-1:123456789012:accesspoint/mine"

SOURCE, COPY = ObjectInfo(Address("bucket", "from"), 4, '"1"'), Address("bucket", "to")
HASH = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="
RESULT = f"<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;2&quot;</ETag><ChecksumSHA256>{HASH}</ChecksumSHA256>"


def read(body: str) -> ObjectInfo:
    return copied_object(SOURCE, COPY, BufferedResponse(200, {"x-amz-version-id": "7"}, body.encode()))


@pytest.mark.parametrize(
    "body",
    [
        f"<CopyObjectResult>{RESULT}</CopyObjectResult>",
        (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<CopyObjectResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{RESULT}'
            "</CopyObjectResult>"
        ),
        f"   \n  <CopyObjectResult>{RESULT}</CopyObjectResult>",
    ],
)
def test_a_result_is_read(body: str) -> None:
    made = read(body)
    assert (made.address, made.size, made.version, made.version_id) == (COPY, 4, '"2"', "7")
    assert made.content_hash == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("body", "saying"),
    [
        ("<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>", "SlowDown"),
        ("", "another content"),
        ("<html>welcome</html>", "another content"),
        ("<CopyObjectResult></CopyObjectResult>", "ETag"),
        ("<CopyObjectResult><ETag></ETag></CopyObjectResult>", "ETag"),
        (f"<CopyPartResult>{RESULT}</CopyPartResult>", "another content"),
        ("<CopyObjectResult><ETag>1</ETag><ChecksumSHA256>?</ChecksumSHA256></CopyObjectResult>", "sha256"),
    ],
)
def test_anything_else_is_refused(body: str, saying: str) -> None:
    with pytest.raises(UnsupportedResponse, match=saying):
        read(body)


@pytest.mark.parametrize(
    ("bucket", "key", "named"),
    [
        ("other", "some key+/ü", "other/some key+/ü"),
        (ACCESS_POINT, "key", f"{ACCESS_POINT}/object/key"),
    ],
)
async def test_source_is_named_as_the_api_wants(s3_rig: S3Rig, bucket: str, key: str, named: str) -> None:
    source = ObjectInfo(Address(bucket, key), 4, '"1"')
    async with proxy_before(s3_rig) as proxy, s3_rig.storage() as storage:
        transport = await storage.transport()
        with pytest.raises((Signal, LakeryCloudError)):  # it is not there
            await transport.copy_as_is(source, Address(s3_rig.bucket, "to"), replace=False)
        assert unquote(proxy.exchanges[-1].headers["x-amz-copy-source"]) == named
