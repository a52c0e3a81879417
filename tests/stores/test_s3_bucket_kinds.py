"""Directory buckets, access points and buckets in other regions: signed as the SDK signs them. Nothing is sent here."""

import re
from typing import Any
from urllib.parse import urlsplit

import botocore.regions
import pytest
from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.session import AioSession

from lakery_cloud import ConfigError, S3Storage
from lakery_cloud.testing import StrictS3, digest_of

ACCOUNT = "123456789012"
DIRECTORY = "logs--use1-az4--x-s3"
CREATED = (
    b"<CreateSessionResult><Credentials><SessionToken>session-token</SessionToken><SecretAccessKey>secret"
    b"</SecretAccessKey><AccessKeyId>session-key</AccessKeyId><Expiration>2099-01-01T00:00:00Z</Expiration>"
    b"</Credentials></CreateSessionResult>"
)


class SentNowhere:
    """A session whose requests are answered before they are sent.

    Attributes:
        requests: Method, URL and headers of each request.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.session = AioSession()
        self.session.set_credentials(StrictS3.access_key_id, StrictS3.secret_access_key)
        self.session.get_component("event_emitter").register_last("before-send.s3", self._answer)

    def _answer(self, request: Any, **_: Any) -> AioAWSResponse:
        headers = {
            name.lower(): value.decode() if isinstance(value, bytes) else value
            for name, value in request.headers.items()
        }
        self.requests.append((request.method, request.url, headers))
        body = CREATED if urlsplit(request.url).query == "session" else b""
        return AioAWSResponse(request.url, 200, {"etag": '"etag"', "content-length": "0"}, _Body(body))


class _Body:
    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self) -> bytes:
        return self._data


async def put(bucket: str, **settings: Any) -> SentNowhere:
    """Put a blob, and return the requests for it that the SDK would have sent."""
    sent = SentNowhere()
    async with S3Storage(bucket, session=sent.session, **settings) as storage:
        await storage.write_data(b"data", digest_of(b"data"), {})
    return sent


@pytest.mark.case("64")
async def test_directory_bucket_has_a_session_and_its_own_signature() -> None:
    sent = await put(DIRECTORY, region="us-east-1")
    (_, session_url, _), (method, url, headers) = sent.requests[0], sent.requests[-1]
    assert session_url == f"https://{DIRECTORY}.s3express-use1-az4.us-east-1.amazonaws.com/?session"
    assert method == "PUT"
    assert urlsplit(url).netloc == f"{DIRECTORY}.s3express-use1-az4.us-east-1.amazonaws.com"
    assert "/us-east-1/s3express/aws4_request" in headers["authorization"]
    assert headers["x-amz-s3session-token"] == "session-token"


@pytest.mark.case("64")
@pytest.mark.parametrize("service", ["s3", "s3-outposts"])
async def test_access_point_is_addressed_in_its_own_region(service: str) -> None:
    name = f"arn:aws:{service}:eu-west-1:{ACCOUNT}:" + (
        "accesspoint/reports" if service == "s3" else "outpost/op-01234567890123456/accesspoint/reports"
    )
    sent = await put(name, region="us-east-1", fast_lane=False)
    _, url, headers = sent.requests[-1]
    assert urlsplit(url).netloc.startswith(f"reports-{ACCOUNT}.")
    assert urlsplit(url).netloc.endswith(".eu-west-1.amazonaws.com")
    # With awscrt, botocore signs requests to Outposts for all regions.
    assert re.search(rf"/(?:eu-west-1/)?{service}/aws4_request", headers["authorization"])


@pytest.mark.case("64")
async def test_multi_region_access_point_is_refused_before_any_request(monkeypatch: pytest.MonkeyPatch) -> None:
    # With awscrt, botocore signs for it.
    monkeypatch.setattr(botocore.regions, "HAS_CRT", False)
    for name in ("v4a", "s3v4a"):
        monkeypatch.delitem(botocore.regions.AUTH_TYPE_MAPS, name, raising=False)
    sent = SentNowhere()
    async with S3Storage(f"arn:aws:s3::{ACCOUNT}:accesspoint/mfzwi23gnjvgw.mrap", session=sent.session) as storage:
        with pytest.raises(ConfigError, match="crt"):
            await storage.write_data(b"data", digest_of(b"data"), {})
    assert not sent.requests


@pytest.mark.case("64")
async def test_multi_region_access_point_is_served_by_the_sdk_with_awscrt() -> None:
    pytest.importorskip("awscrt", reason="the environment is older than the extra `test`")
    sent = await put(f"arn:aws:s3::{ACCOUNT}:accesspoint/mfzwi23gnjvgw.mrap")
    for _, url, headers in sent.requests:
        assert urlsplit(url).netloc == "mfzwi23gnjvgw.mrap.accesspoint.s3-global.amazonaws.com"
        assert headers["authorization"].startswith("AWS4-ECDSA-P256-SHA256 ")
    assert sent.requests[-1][0] == "PUT"


@pytest.mark.case("67")
@pytest.mark.parametrize(
    ("bucket", "region", "host"),
    [
        ("bucket", "eu-central-1", "bucket.s3.eu-central-1.amazonaws.com"),
        ("bucket", "us-east-1", "bucket.s3.amazonaws.com"),
        ("a.dotted.bucket", "eu-west-1", "s3.eu-west-1.amazonaws.com"),
    ],
)
async def test_urls_are_signed_by_version_4_in_every_region(bucket: str, region: str, host: str) -> None:
    sent = SentNowhere()
    async with S3Storage(bucket, session=sent.session, region=region) as storage:
        url = (await storage.presign(storage.storage_data_of(digest_of(b"data")))).url
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in url
    assert urlsplit(url).netloc in (host, f"{bucket}.s3.amazonaws.com")
    assert not sent.requests
