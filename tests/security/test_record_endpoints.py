"""Names in records: no request with credentials leaves for another host, and each target names what the record names."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from lakery_cloud import AzureBlobStorage, GCSStorage, InvalidRecord, LakeryCloudError, ObjectStorage, S3Storage
from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import Upload
from lakery_cloud.providers.s3.signing import Endpoints
from lakery_cloud.providers.s3.storage import SDKClient
from lakery_cloud.streams.parts import Part
from lakery_cloud.testing import digest_of
from tests.attack.cases import cases, counted
from tests.http.raw import RawServer, running
from tests.security.audit import watched
from tests.security.hostile import bucket_names, key_names, uses
from tests.security.test_allowed_buckets import SPECIAL

DIGEST = digest_of(b"content")
OWN = "own-bucket"
KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "token",
    "AWS_DEFAULT_REGION": "us-west-2",
}


AMAZON = "s3.us-west-2.amazonaws.com:443"


class Refusing(RawServer):
    """A server, and a proxy for all other hosts, that refuses each request.

    Attributes:
        targets: The target of each request, and the host and port of each tunnel.
    """

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []


@asynccontextmanager
async def refusing() -> AsyncIterator[Refusing]:
    """Start a server that refuses each request, and records what it was."""
    seen = Refusing()

    async def serve(reader: Any, writer: Any) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            seen.targets.append(head.split(b" ", 2)[1].decode())
            size = re.search(rb"^content-length: (\d+)\r$", head, flags=re.MULTILINE | re.IGNORECASE)
            await reader.readexactly(int(size[1]) if size else 0)
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()

    async with running(serve) as server:
        seen.url = server.url
        yield seen


# Storages at one server.


PLACES: dict[str, tuple[Callable[[str, bool], ObjectStorage[Any]], Callable[[str, str], list[str]]]] = {
    "s3": (
        lambda url, fast: S3Storage(OWN, endpoint_url=url, max_attempts=1, fast_lane=fast),
        lambda bucket, key: [f"/{bucket}/{key}"],
    ),
    "gcs": (
        lambda url, fast: GCSStorage(OWN, endpoint_url=url, token="token", max_attempts=1, fast_lane=fast),
        lambda bucket, key: [f"/storage/v1/b/{bucket}/o/{key}", f"/storage/v1/b/{bucket}"],
    ),
    "azure": (
        lambda url, fast: AzureBlobStorage(
            OWN, account_name="me", account_key="a2V5", endpoint_url=f"{url}/me", max_attempts=1, fast_lane=fast
        ),
        lambda bucket, key: [f"/me/{bucket}/{key}", f"/me/{bucket}"],
    ),
}
"""Cloud -> its storage at a URL with or without hot requests; the decoded paths of requests for a bucket and a key."""


@pytest.fixture
def aws_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("fast_lane", [True, False], ids=["hot", "sdk"])
@pytest.mark.parametrize("cloud", PLACES)
@cases(12, suppress_health_check=list(HealthCheck))
@given(names=st.lists(st.tuples(bucket_names, key_names), min_size=4, max_size=4))
async def test_names_lead_to_no_other_host_and_to_no_other_object(
    cloud: str, fast_lane: bool, aws_keys: None, names: list[tuple[str, str]]
) -> None:
    make, paths_of = PLACES[cloud]
    async with refusing() as server, make(server.url, fast_lane) as storage:
        parts = urlsplit(server.url)
        for bucket, key in names:
            storage_data = dict(zip(storage.place_names, (bucket, key), strict=True))
            with watched() as deeds:
                for name, use in uses(storage, DIGEST).items():
                    server.targets.clear()
                    try:
                        await use(storage_data)
                    except LakeryCloudError:
                        pass
                    else:
                        assert name == "complete_storage_data"
                    for target in server.targets:
                        path = unquote(target.partition("?")[0], errors="surrogateescape")
                        assert path in paths_of(bucket, key), f"{name} of {storage_data} requests {target}"
                        assert "versionId" not in target.partition("?")[2]
                    counted["uses of names"] += 1
            assert deeds.addresses <= {(parts.hostname, parts.port)}
            assert deeds.names <= {parts.hostname}


@pytest.mark.parametrize("fast_lane", [True, False], ids=["hot", "sdk"])
@cases(6, suppress_health_check=list(HealthCheck))
@given(names=st.lists(bucket_names, min_size=4, max_size=4))
async def test_names_lead_to_no_other_host_of_amazon(fast_lane: bool, aws_keys: None, names: list[str]) -> None:
    async with refusing() as proxy:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
                patch.setenv(name, proxy.url)
            async with S3Storage(OWN, max_attempts=1, fast_lane=fast_lane) as storage:
                for bucket in names:
                    for use in uses(storage, DIGEST).values():
                        with suppress(LakeryCloudError):
                            await use({"bucket": bucket, "key": "key"})
                        counted["uses of names"] += 1
                    for target in proxy.targets:
                        assert target in (AMAZON, f"{bucket}.{AMAZON}")
                    proxy.targets.clear()


# Behind the check of the names.

ATTRIBUTES = ObjectAttributes("text/plain", None, {}, {})
Operation = Callable[[Any, Address], Awaitable[Any]]


async def _get(transport: Any, address: Address) -> None:
    async with transport.get(address):
        pass


async def _list_versions(transport: Any, address: Address) -> None:
    async for _ in transport.list_versions(address.bucket, ""):
        pass


async def _list(transport: Any, address: Address) -> None:
    [info async for info in transport.list(address.bucket, "")]


def _part(transport: Any, address: Address) -> Awaitable[Any]:
    return transport.upload_part(Upload(address, "id", ATTRIBUTES), Part(1, 0, (b"x",), is_last=True))


OPERATIONS: dict[str, Operation] = {
    "head": lambda transport, address: transport.head(address),
    "get": _get,
    "put": lambda transport, address: transport.put(address, b"x", ATTRIBUTES),
    "part": _part,
    "delete": lambda transport, address: transport.delete(address),
    "delete_all": lambda transport, address: transport.delete_all(address.bucket, {"a": None, "b": "1"}),
    "tags": lambda transport, address: transport.tags(address),
    "list": _list,
    "list_versions": _list_versions,
    "begin_upload": lambda transport, address: transport.begin_upload(address, ATTRIBUTES, is_temporary=True),
    "has_bucket": lambda transport, address: transport.has_bucket(address.bucket),
}
ELSEWHERE = (
    *(name for name in SPECIAL if name.endswith(("--op-s3", "--x-s3", "--xa-s3"))),
    "arn:aws:s3:eu-west-1:123456789012:accesspoint/reports",
    "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-01234567890123456/accesspoint/reports",
)
"""Names that the SDK sends elsewhere, or signs for another service. It treats the other special ones as buckets."""


@asynccontextmanager
async def client_of_the_user() -> AsyncIterator[Any]:
    session = AioSession()
    session.set_credentials(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"], KEYS["AWS_SESSION_TOKEN"])
    config = AioConfig(retries={"total_max_attempts": 1}, connect_timeout=5)
    async with session.create_client("s3", region_name="us-west-2", config=config) as client:
        yield client


@asynccontextmanager
async def storage_behind(kind: str, **settings: Any) -> AsyncIterator[S3Storage]:
    """A storage on Amazon S3: `hot`, `sdk`, or on the `client` of the user."""
    if kind == "client":
        async with client_of_the_user() as client, S3Storage(OWN, client=client, **settings) as storage:
            yield storage
    else:
        async with S3Storage(OWN, max_attempts=1, fast_lane=kind == "hot", **settings) as storage:
            yield storage


@pytest.mark.parametrize("kind", ["hot", "sdk", "client"])
async def test_sdk_is_asked_where_a_name_leads_before_anything_is_sent(
    kind: str, aws_keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with refusing() as proxy:
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, proxy.url)
        async with storage_behind(kind) as storage:
            transport = await storage.transport()
            for bucket in ELSEWHERE:
                for name, operation in OPERATIONS.items():
                    with pytest.raises(InvalidRecord, match="another endpoint than 'own-bucket'"):
                        await operation(transport, Address(bucket, "key"))
                    assert not proxy.targets, f"{name} of {bucket}"
            for bucket in (OWN, "another-bucket", "a.dotted.bucket", "Legacy_Bucket"):
                with pytest.raises(LakeryCloudError):
                    await transport.delete(Address(bucket, "key"))
                host = f"{bucket}." if re.fullmatch("[a-z-]+", bucket) else ""
                assert {*proxy.targets} == {f"{host}{AMAZON}"}, bucket
                proxy.targets.clear()


async def test_sdk_is_asked_also_about_an_endpoint_of_the_configuration(aws_keys: None) -> None:
    async with refusing() as server, S3Storage(OWN, endpoint_url=server.url, max_attempts=1) as storage:
        transport = await storage.transport()
        for bucket in ELSEWHERE:
            for operation in OPERATIONS.values():
                with watched() as deeds, pytest.raises(InvalidRecord, match="another endpoint than 'own-bucket'"):
                    await operation(transport, Address(bucket, "key"))
                assert (deeds.addresses, deeds.names, server.targets) == (set(), set(), [])


@pytest.mark.parametrize("kind", ["hot", "sdk", "client"])
async def test_name_that_the_configuration_allows_is_not_compared(
    kind: str, aws_keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    outpost = next(name for name in SPECIAL if name.endswith("--op-s3"))
    async with refusing() as proxy:
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, proxy.url)
        async with storage_behind(kind, allowed_buckets=[outpost]) as storage:
            with pytest.raises(LakeryCloudError):
                await storage.delete({"bucket": outpost, "key": "key"})
        assert [target for target in proxy.targets if "s3-outposts.us-west-2.amazonaws.com" in target]


async def test_redirect_of_the_own_bucket_makes_no_other_one_a_stranger() -> None:
    def redirect(params: Any, builtins: Any, **_: Any) -> None:  # as the SDK's own handler does after a redirect
        if params["Bucket"] == OWN:
            builtins["AWS::Region"] = "eu-central-1"

    async with client_of_the_user() as client:
        client.meta.events.register("before-endpoint-resolution.s3", redirect)
        endpoints = Endpoints(SDKClient.opened(client), OWN, ())
        await endpoints.check("another-bucket")
        with pytest.raises(InvalidRecord):
            await endpoints.check(ELSEWHERE[0])
