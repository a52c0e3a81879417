"""Responses to HEAD have no body: why a store refuses one is learned by a request whose refusal has a body."""

from dataclasses import replace

import pytest

from lakery_cloud import AccessDenied, ConfigError, CredentialsError, LakeryCloudError, S3Storage, StorageUnavailable
from lakery_cloud.testing import S3_PROFILES, ScriptedProxy, content, digest_of
from tests.helpers import write, write_stream
from tests.stores.stores import BUCKET, PART, operations, s3_storage, s3_store

DATA = b"some content"
REGION = "eu-west-1"

# Code, status, error, and a part of the advice. S3 API Reference, "Error responses", if no other source is named.
CODES = [
    ("ExpiredToken", 400, CredentialsError, "Renew them"),
    ("InvalidToken", 400, CredentialsError, "Renew them"),
    ("TokenRefreshRequired", 400, CredentialsError, "Renew them"),
    ("AuthorizationHeaderMalformed", 400, ConfigError, f"The bucket is in '{REGION}'; set region to it"),
    ("InvalidHostHeader", 400, ConfigError, "endpoint_url"),
    ("KMS.DisabledException", 400, ConfigError, "kms_key_id"),
    ("Throttling", 400, StorageUnavailable, "later"),  # AWS SDKs and Tools Reference Guide, "Retry behavior"
    ("Unauthorized", 401, CredentialsError, "Renew them"),  # Cloudflare R2 documentation, "Error codes"
    ("AccessDenied", 403, AccessDenied, "Grant s3:GetObject"),
    ("AccountProblem", 403, AccessDenied, "ask its support"),
    ("InvalidAccessKeyId", 403, CredentialsError, "Renew them"),
    ("InvalidPayer", 403, AccessDenied, "ask its owner"),
    ("RequestTimeTooSkewed", 403, CredentialsError, "Set the clock"),
    ("SignatureDoesNotMatch", 403, CredentialsError, "Renew them"),
    ("UserSuspended", 403, AccessDenied, "ask its support"),  # Ceph documentation, "S3 error responses"
    ("PermanentRedirect", 301, ConfigError, "The bucket is in another region; set region"),
    ("MethodNotAllowed", 405, ConfigError, "website"),
]


@pytest.fixture(params=[True, False], ids=["hot requests", "SDK"])
def fast_lane(request: pytest.FixtureRequest) -> bool:
    """Whether lakery-cloud sends the hot requests itself."""
    return bool(request.param)


async def exists(storage: S3Storage) -> bool:
    return await storage.exists(storage.storage_data_of(digest_of(DATA)))


@pytest.mark.case("52")
@pytest.mark.parametrize(("code", "status", "error", "advice"), CODES, ids=[code for code, *_ in CODES])
async def test_refused_head_has_the_words_of_the_store(
    code: str, status: int, error: type[LakeryCloudError], advice: str, fast_lane: bool
) -> None:
    # As stores other than Amazon S3, which name the region in a header.
    profile = replace(S3_PROFILES["aws"], missing=("x-amz-bucket-region",))
    region = REGION if code == "AuthorizationHeaderMalformed" else ""
    async with s3_store(profile, fast_lane=fast_lane, max_attempts=1) as (server, storage):
        server.refuse(status, code, "Why.", region=region)
        with pytest.raises(error) as raised:
            await exists(storage)
        assert code in str(raised.value)
        assert advice in str(raised.value)
        assert operations(server)[0] == "HeadObject"
        assert "GetObject" in operations(server)


@pytest.mark.case("52")
@pytest.mark.parametrize(("code", "status", "error", "advice"), CODES, ids=[code for code, *_ in CODES])
async def test_refused_head_of_a_bucket_has_the_words_of_the_store(
    code: str, status: int, error: type[LakeryCloudError], advice: str
) -> None:
    async with s3_store("aws", max_attempts=1) as (server, storage):
        server.refuse(status, code, "Why.", region=REGION if code == "AuthorizationHeaderMalformed" else "")
        transport = await storage.transport()
        if error is AccessDenied or code == "PermanentRedirect":
            assert await transport.has_bucket(BUCKET)
            return
        with pytest.raises(error) as raised:
            await transport.has_bucket(BUCKET)
        assert code in str(raised.value)
        assert advice in str(raised.value)


@pytest.mark.case("52")
async def test_head_goes_on_in_the_region_that_a_refusal_names(fast_lane: bool) -> None:
    profile = replace(S3_PROFILES["aws"], missing=("x-amz-bucket-region",))
    async with s3_store(profile, fast_lane=fast_lane, region=REGION) as (server, storage):
        assert await exists(storage) is False
        server.put(BUCKET, digest_of(DATA)["content_hash"], DATA)
        assert await exists(storage) is True
        server.received.clear()
        assert await exists(storage) is True
        assert operations(server) == ["HeadObject"]


@pytest.mark.case("52")
@pytest.mark.parametrize("data", [DATA, content(2 * PART + 1)], ids=["blob", "stream"])
async def test_healthy_store_gets_no_request_more(data: bytes, fast_lane: bool) -> None:
    async with s3_store("aws", fast_lane=fast_lane) as (server, storage):
        assert await exists(storage) is False
        stored = await write_stream(storage, data)
        assert await storage.exists(stored)
        assert "GetObject" not in operations(server)
        assert "ListObjectsV2" not in operations(server)


@pytest.mark.case("34")
async def test_missing_keys_without_the_right_to_list_cost_one_request_once(fast_lane: bool) -> None:
    async with s3_store("aws", fast_lane=fast_lane) as (server, storage):
        server.refuse(403, "AccessDenied", "Access Denied")
        for number in range(3):
            with pytest.raises(AccessDenied, match="s3:ListBucket"):
                await storage.exists(storage.storage_data_of(digest_of(b"%d" % number)))
    assert operations(server) == ["HeadObject", "GetObject", "HeadObject", "HeadObject"]


@pytest.mark.case("52")
async def test_refusal_of_head_stands_where_get_is_allowed(fast_lane: bool) -> None:
    async with s3_store("aws", fast_lane=fast_lane) as (server, storage), ScriptedProxy(server.url) as proxy:
        await write(storage, DATA)
        proxy.answer(lambda exchange: exchange.method == "HEAD", status=403, times=10)
        async with s3_storage(server, endpoint_url=proxy.url, fast_lane=fast_lane) as behind_proxy:
            with pytest.raises(AccessDenied, match="head_object"):
                await exists(behind_proxy)
