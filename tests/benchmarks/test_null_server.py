"""A storage on a null server works as on any: what benchmarks measure is the whole of it."""

import http.client
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest

from benchmarks.harness import Admin
from benchmarks.null_server import Conditions, Running, null_server
from benchmarks.payload import BLOCK, MiB, blocks, pattern, sha256_of_blocks, unique
from benchmarks.peers.azure_account import connection_string
from benchmarks.workloads import BY_NAME, WRITTEN
from lakery_cloud import (
    AzureBlobStorage,
    GCSStorage,
    S3Storage,
    StorageRegistry,
)
from tests.helpers import blob, blob_stream


@pytest.fixture(params=["s3", "gcs", "azure"])
async def storage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    url = request.getfixturevalue(f"null_{request.param}").url
    async with storage_on(request.param, url, monkeypatch) as opened:
        yield opened


def storage_on(api: str, url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    if api == "gcs":
        return GCSStorage(WRITTEN, endpoint_url=url)
    if api == "azure":
        return AzureBlobStorage(WRITTEN, connection_string=connection_string(url))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testtest")
    return S3Storage(WRITTEN, endpoint_url=url, region="us-east-1")


async def test_small_content_comes_back(storage: Any) -> None:
    registry = StorageRegistry([storage])
    record = await registry.save(blob(unique(1024, 1)), tags={"project": "a/b"})
    assert (await registry.load(record))["data"] == unique(1024, 1)
    assert (await registry.save(blob(unique(1024, 1)))).storage_data == record.storage_data


async def test_blocks_come_back_from_a_server_that_dropped_them(storage: Any) -> None:
    registry = StorageRegistry([storage])
    record = await registry.save_stream(blob_stream(blocks(20 * MiB)))
    assert record.content_hash == sha256_of_blocks(20 * MiB)
    async with aclosing(registry.load_stream(record)["data_stream"]) as chunks:
        assert sum([len(chunk) async for chunk in chunks]) == 20 * MiB
    assert [info.size async for info in storage.list() if info.address.key == record.content_hash] == [20 * MiB]


async def test_content_comes_whole_over_tls_and_a_slow_network(monkeypatch: pytest.MonkeyPatch) -> None:
    with null_server("s3", Conditions(tls=True, latency=1, rate=1000)) as server, Admin(server) as admin:
        admin.fill(BY_NAME["puts"])
        monkeypatch.setenv("AWS_CA_BUNDLE", str(server.certificate))
        async with storage_on("s3", server.url, monkeypatch) as storage:
            registry = StorageRegistry([storage])
            record = await registry.save_stream(blob_stream(blocks(20 * MiB)))
            assert (await registry.load(record))["data"] == BLOCK * 20


def test_checksums_behind_bodies_are_no_content() -> None:
    # Over TLS botocore sends a body in chunks, and its checksum behind it.
    with null_server("s3", Conditions(tls=True)) as server:
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "testtest", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=server.url, verify=str(server.certificate), **keys)
        client.create_bucket(Bucket="b")
        for content in (b"", b"small", BLOCK * 3):
            client.put_object(Bucket="b", Key="k", Body=content)
            with client.get_object(Bucket="b", Key="k")["Body"] as body:
                assert body.read() == content
        client.close()


def test_its_certificate_is_not_trusted_by_default() -> None:
    with null_server("s3", Conditions(tls=True)) as server:
        connection = http.client.HTTPSConnection(urlsplit(server.url).netloc, context=ssl.create_default_context())
        with pytest.raises(ssl.SSLCertVerificationError):
            connection.request("GET", "/")


def test_a_body_is_dropped_and_a_connection_goes_on(null_s3: Running) -> None:
    connection = http.client.HTTPConnection(urlsplit(null_s3.url).netloc)
    try:
        sent = [("PUT", BLOCK * 3), ("GET", b""), ("PUT", iter([BLOCK, b"", BLOCK * 2])), ("GET", b"")]
        for method, body in (*sent, ("DELETE", b""), ("GET", b"")):
            connection.request(method, f"/{WRITTEN}/large", body)
            answer = connection.getresponse()
            received = answer.read()
            if method == "GET" and answer.status == 200:
                assert received == b"".join(pattern(0, 3 * MiB))
        assert answer.status == 404
    finally:
        connection.close()
