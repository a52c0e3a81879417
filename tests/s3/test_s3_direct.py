"""What S3's hot requests need without the SDK's client: the same as with it, or nothing if a setting has another meaning."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from lakery_cloud import S3Storage
from lakery_cloud.http.pool import Sockets
from lakery_cloud.http.trust import Trust
from lakery_cloud.providers.s3.credentials import AWSConfiguration
from lakery_cloud.providers.s3.sdk import new_session, open_client, session_of
from lakery_cloud.providers.s3.settings import S3Settings
from lakery_cloud.providers.s3.signing import find_direct, find_route
from lakery_cloud.redaction import Secrets
from lakery_cloud.testing.doubles.s3 import StrictS3
from tests.helpers import run_python

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
PROFILE = "[default]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = secret-of-profile\n"
OTHER = PROFILE + "[profile other]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = s\nregion = sa-east-1\n"
TRUST = Trust()
"""One for all clients: certificates take long to load."""
REGION = {"AWS_DEFAULT_REGION": "eu-central-1"}
LOCAL = "http://127.0.0.1:9000"


class Case(NamedTuple):
    """A configuration: settings, variables, and the text of a configuration file."""

    settings: Mapping[str, Any] = MappingProxyType({})
    variables: Mapping[str, str] = KEYS | REGION
    file: str = ""


DIRECT = {
    "region of a variable": Case(),
    "region of a setting": Case({"region": "ap-southeast-2"}),
    "us-east-1": Case({"region": "us-east-1"}),
    "China": Case({"region": "cn-north-1"}),
    "GovCloud": Case({"region": "us-gov-west-1"}),
    "a region that the SDK does not know": Case({"region": "xx-nowhere-7"}),
    "path style": Case({"addressing_style": "path"}),
    "virtual style": Case({"addressing_style": "virtual"}),
    "endpoint": Case({"endpoint_url": LOCAL}),
    "endpoint in virtual style": Case({"endpoint_url": "https://minio.example.com", "addressing_style": "virtual"}),
    "endpoint in automatic style": Case({"endpoint_url": "https://minio.example.com", "addressing_style": "auto"}),
    "endpoint with a path": Case({"endpoint_url": "https://minio.example.com:9000/base/path/"}),
    "endpoint without a region": Case({"endpoint_url": LOCAL}, KEYS),
    "endpoint with a region of its own": Case({"endpoint_url": LOCAL, "region": "garage"}),
    "endpoint of a variable": Case({}, {**KEYS, **REGION, "AWS_ENDPOINT_URL": LOCAL}),
    "endpoint of S3's variable": Case(
        {}, {**KEYS, **REGION, "AWS_ENDPOINT_URL": "https://other.example", "AWS_ENDPOINT_URL_S3": LOCAL}
    ),
    "session token": Case({}, {**KEYS, **REGION, "AWS_SESSION_TOKEN": "token"}),
    "function of AWS Lambda": Case({}, {**KEYS, **REGION, "AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_EXECUTION_ENV": "x"}),
    "keys of the default profile": Case({}, {}, f"{PROFILE}region = eu-west-3\n"),
    "keys of a profile": Case({"profile": "other"}, KEYS, OTHER),
    "profile of a variable": Case({}, {"AWS_PROFILE": "other"}, OTHER),
    "keys of our own configuration": Case(
        S3Storage.credentials_from({"access_key_id": "AKIAOURS", "secret_access_key": "s", "session_token": "t"}),
        KEYS | REGION,
    ),
    "keys of the environment and a profile": Case({}, KEYS | {"AWS_PROFILE": "other"}, OTHER),
}

FOR_THE_SDK = {
    "no keys": Case({"region": "eu-central-1"}, {}),
    "no region": Case({}, KEYS),
    "half of the keys": Case({}, {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", **REGION}),
    "keys that expire": Case({}, {**KEYS, **REGION, "AWS_CREDENTIAL_EXPIRATION": "2099-01-01T00:00:00Z"}),
    "role of a profile": Case({}, KEYS | REGION, f"{PROFILE}role_arn = arn:aws:iam::123456789012:role/r\n"),
    "process": Case({}, REGION, "[default]\ncredential_process = /bin/false\n"),
    "web identity": Case({}, {**KEYS, **REGION, "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere"}),
    "container": Case({}, {**REGION, "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/"}),
    "profile that is absent": Case({"profile": "absent"}),
    "file that can't be read": Case({}, KEYS | REGION, "no section"),
    "dual stack": Case({}, {**KEYS, **REGION, "AWS_USE_DUALSTACK_ENDPOINT": "true"}),
    "FIPS": Case({}, {**KEYS, **REGION, "AWS_USE_FIPS_ENDPOINT": "true"}),
    "region of FIPS": Case({"region": "fips-us-east-1"}),
    "global region": Case({"region": "aws-global"}),
    "regional endpoint of us-east-1": Case({}, {**KEYS, **REGION, "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "regional"}),
    "ignored endpoint": Case(
        {}, {**KEYS, **REGION, "AWS_ENDPOINT_URL": LOCAL, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "1"}
    ),
    "endpoint of a profile": Case({}, KEYS | REGION, f"{PROFILE}endpoint_url = {LOCAL}\n"),
    "settings of S3 in a profile": Case({}, KEYS | REGION, f"{PROFILE}s3 =\n  use_accelerate_endpoint = true\n"),
    "services of a profile": Case({}, KEYS | REGION, f"{PROFILE}services = own\n"),
    "region that is a section": Case({}, KEYS, f"{PROFILE}region =\n  a = b\n"),
    "accelerated endpoint": Case({"endpoint_url": "https://s3-accelerate.amazonaws.com"}),
    "endpoint with credentials": Case(
        {}, {**KEYS, **REGION, "AWS_ENDPOINT_URL": "https://user:word@minio.example.com"}
    ),
    "endpoint that is none": Case({}, {**KEYS, **REGION, "AWS_ENDPOINT_URL": "minio.example.com"}),
    "plugins of the SDK": Case({}, {**KEYS, **REGION, "BOTOCORE_EXPERIMENTAL__PLUGINS": "a=b"}),
    "descriptions of the API of the user's own": Case({}, {**KEYS, **REGION, "AWS_DATA_PATH": "/nowhere"}),
    "a variable of a later SDK": Case({}, {**KEYS, **REGION, "AWS_SOMETHING_NEW": "1"}),
    "a setting of a later SDK": Case({}, KEYS | REGION, f"{PROFILE}something_new = 1\n"),
    "hot requests of the SDK": Case({"fast_lane": False}),
    "a session": Case({"session": new_session(None)}),
}


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write the file of a case, set its variables, and return its settings for a bucket."""

    def configure(case: Case, bucket: str = "own-bucket") -> S3Settings:
        (tmp_path / "config").write_text(case.file)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        for name, value in case.variables.items():
            monkeypatch.setenv(name, value)
        return S3Settings(bucket, **case.settings)

    return configure


@asynccontextmanager
async def sdks_client(settings: S3Settings) -> AsyncIterator[Any]:
    session = session_of(settings)
    async with open_client(
        settings,
        session,
        AWSConfiguration(session, {"region": settings.region, "endpoint_url": settings.endpoint_url}),
        sockets=Sockets(limit=1, seconds=1),
        trust=TRUST,
        secrets=Secrets(),
    ) as client:
        yield client


@pytest.mark.parametrize("name", DIRECT)
async def test_found_without_the_client_is_what_the_client_says(configure, name):
    async with sdks_client(configure(DIRECT[name])) as client:
        for bucket in ("own-bucket", "b-0"):
            direct = find_direct(configure(DIRECT[name], bucket))
            assert direct is not None
            own, asked = [
                (await keys.get_frozen_credentials())[:3]
                for keys in (direct.credentials, client._request_signer._credentials)
            ]
            asked_route = await find_route(client, bucket)
            assert (direct.route, direct.endpoint, own) == (asked_route, client.meta.endpoint_url, asked)


@pytest.mark.parametrize("name", FOR_THE_SDK)
def test_other_configurations_are_for_the_client(configure, name):
    assert find_direct(configure(FOR_THE_SDK[name])) is None


@pytest.mark.parametrize(
    "bucket",
    [
        *(
            "dotted.name",
            "Capital",
            "under_score",
            "alias-s3alias",
            "zone--use1-az4--x-s3",
            "x--op-s3",
            "x--ol-s3",
            "my.mrap",
        ),
        *("tenant:bucket", "arn:aws:s3:us-west-2:123456789012:accesspoint/a"),
    ],
)
def test_names_of_other_kinds_are_for_the_client(configure, bucket):
    assert find_direct(configure(Case(), bucket)) is None


def test_descriptions_in_the_home_folder_are_for_the_client(configure, tmp_path, monkeypatch):
    monkeypatch.setattr("botocore.loaders.Loader.CUSTOMER_DATA_PATH", str(tmp_path))
    assert find_direct(configure(Case())) is None


PUT = """
    import asyncio, sys
    from lakery_cloud import DigestingStream, S3Storage, digest_data

    blob = {"data": b"content", "content_type": "x/y", "content_encoding": None}

    async def chunks():
        for _ in range(9):
            yield bytes(1024 * 1024)

    async def main():
        async with S3Storage("bucket", endpoint_url=sys.argv[1]) as storage:
            found = await storage.write_data(blob["data"], await digest_data(blob), {})
            assert await storage.read_data(found) == blob["data"]
            assert await storage.exists(found)
            async for _ in storage.list():
                pass
            stream = DigestingStream({"data_stream": chunks(), "content_type": "x/y", "content_encoding": None})
            await storage.delete(await storage.write_data_stream(stream, stream.get_digest, {}))
            hot = set(sys.modules)
            await storage.stat(found)  # which asks for tags
            print(sorted({"aiobotocore", "aioboto3", "boto3", "aiohttp", "anyio"} & hot), "aiobotocore" in sys.modules)

    asyncio.run(main())
"""


async def test_first_requests_load_no_client_of_the_sdk(monkeypatch):
    async with StrictS3() as server:
        server.make_bucket("bucket")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key_id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_access_key)
        assert await asyncio.to_thread(run_python, PUT, server.url) == "[] True\n"
