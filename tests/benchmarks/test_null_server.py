"""A storage on a null server works as on any: what benchmarks measure is the whole of it."""

import asyncio
import http.client
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, cast
from urllib.parse import urlsplit

import boto3
import google.cloud.storage
import pytest
from azure.storage.blob import ContainerClient
from google.api_core.exceptions import PreconditionFailed
from google.auth.credentials import AnonymousCredentials

from benchmarks.harness import Admin
from benchmarks.null_server import Conditions, Running, null_server
from benchmarks.null_server.azure import ACCOUNT, Azure
from benchmarks.null_server.gcs import GCS
from benchmarks.null_server.objects import Bucket, Stored, Upload
from benchmarks.null_server.s3 import S3
from benchmarks.null_server.wire import Connection
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


COPIES = {
    "CopyObject": (S3, "PUT /b/new", {"x-amz-copy-source": "b/k"}, 3),
    "UploadPartCopy": (
        S3,
        "PUT /b/new?uploadId=u&partNumber=1",
        {"x-amz-copy-source": "b/k", "x-amz-copy-source-range": f"bytes=0-{MiB - 1}"},
        1,
    ),
    "PutObject": (S3, "PUT /b/new", {}, 0),
    "rewrite": (GCS, "POST /storage/v1/b/b/o/k/rewriteTo/b/b/o/new", {}, 3),
    "move": (GCS, "POST /storage/v1/b/b/o/k/moveTo/o/new", {}, 0),
    "Copy Blob": (Azure, f"PUT {ACCOUNT}b/new", {"x-ms-copy-source": f"http://a{ACCOUNT}b/k"}, 3),
    "Put Blob From URL": (
        Azure,
        f"PUT {ACCOUNT}b/new",
        {"x-ms-copy-source": f"http://a{ACCOUNT}b/k", "x-ms-blob-type": "BlockBlob"},
        3,
    ),
    "Put Block From URL": (
        Azure,
        f"PUT {ACCOUNT}b/new?comp=block&blockid=MQ",
        {"x-ms-copy-source": f"http://a{ACCOUNT}b/k", "x-ms-source-range": f"bytes=0-{MiB - 1}"},
        1,
    ),
}


class NotedTimers:
    """The timers of a loop that never ring."""

    def __init__(self) -> None:
        self.delays: list[float] = []

    def call_later(self, delay: float, *_: object) -> None:
        self.delays.append(delay)


class NoTransport(asyncio.Transport):
    """A transport that takes what is written to it."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


@pytest.mark.parametrize("name", COPIES)
async def test_a_copy_takes_time_by_its_size(name: str) -> None:
    dialect_class, line, headers, copied = COPIES[name]
    dialect = dialect_class()
    bucket = dialect._buckets["b"] = Bucket()
    bucket.objects["k"] = Stored(3 * MiB, None, {})
    bucket.uploads["u"] = Upload("new", {})
    connection, timers = Connection(dialect, latency=0.5, copy_rate=MiB), NotedTimers()
    connection._loop = cast("asyncio.AbstractEventLoop", timers)
    connection.connection_made(NoTransport())
    lines = [f"{line} HTTP/1.1", *(f"{header}: {value}" for header, value in headers.items())]
    head = "\r\n".join([*lines, "content-length: 0", "", ""]).encode()
    connection.get_buffer(0)[: len(head)] = head
    connection.buffer_updated(len(head))
    assert timers.delays == [0.5 + copied]
    assert dialect.counts.copied == copied * MiB
    assert ("k" in bucket.objects) == (name != "move")


class LateTimers:
    """A clock, and timers that ring too late."""

    def __init__(self, late: float) -> None:
        self.now = 100.0
        self.late = late
        self.due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, function: Callable[[], None]) -> None:
        self.due.append((when, function))

    def ring(self) -> None:
        for when, function in self.due[:]:
            self.due.pop(0)
            self.now = max(self.now, when + self.late)
            function()


class Paused(NoTransport):
    """A transport whose reading can be paused."""

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass


@pytest.mark.parametrize("late", [0, 0.0011, 0.015])
async def test_a_link_has_its_rate_although_timers_are_late(late: float) -> None:
    size, rate, waited = 32 * MiB, 100e6, 5.0
    connection, clock = Connection(S3(), rate=rate), LateTimers(late)
    connection._loop = cast("asyncio.AbstractEventLoop", clock)
    connection.connection_made(Paused())
    for _ in range(2):  # an idle connection saves no bandwidth for later
        clock.now += waited
        began = clock.now
        left = head = f"PUT /b/k HTTP/1.1\r\ncontent-length: {size}\r\n\r\n".encode()
        while left or connection._left:
            buffer = connection.get_buffer(0)
            count = len(left) or min(len(buffer), connection._left)
            buffer[: len(left)] = left
            left = b""
            connection.buffer_updated(count)
            clock.ring()
        assert clock.now - began == pytest.approx((len(head) + size) / rate, abs=late + 0.003)


KEYS = ("a/1", "a/2", "a/b/3", "a/b/4", "a/c", "d")


def pages_of_s3(server: Running) -> tuple[list[str], list[str]]:
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "testtest", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=server.url, **keys)
    try:
        pages = [*client.get_paginator("list_objects_v2").paginate(Bucket="l", PaginationConfig={"PageSize": 2})]
        assert len(pages) == 3
        flat = [entry["Key"] for page in pages for entry in page["Contents"]]
        listing = {"Bucket": "l", "Prefix": "a/", "Delimiter": "/", "PaginationConfig": {"PageSize": 1}}
        pages = [*client.get_paginator("list_objects_v2").paginate(**listing)]
        return flat, [
            *(entry["Key"] for page in pages for entry in page.get("Contents", ())),
            *(entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", ())),
        ]
    finally:
        client.close()


def pages_of_gcs(server: Running) -> tuple[list[str], list[str]]:
    options = {"credentials": AnonymousCredentials(), "client_options": {"api_endpoint": server.url}}
    client = google.cloud.storage.Client(project="bench", **options)
    try:
        found = client.list_blobs("l", page_size=2)
        pages = [[blob.name for blob in page] for page in found.pages]
        assert [len(page) for page in pages] == [2, 2, 2]
        grouped = client.list_blobs("l", prefix="a/", delimiter="/", page_size=1)
        names = [blob.name for blob in grouped]
        return [name for page in pages for name in page], [*names, *grouped.prefixes]
    finally:
        client.close()


def pages_of_azure(server: Running) -> tuple[list[str], list[str]]:
    with ContainerClient.from_connection_string(connection_string(server.url), "l") as client:
        pages = [[blob.name for blob in page] for page in client.list_blobs(results_per_page=2).by_page()]
        assert [len(page) for page in pages] == [2, 2, 2]
        grouped = client.walk_blobs("a/", results_per_page=1)
        return [name for page in pages for name in page], [entry.name for entry in grouped]


@pytest.mark.parametrize(("api", "pages"), [("s3", pages_of_s3), ("gcs", pages_of_gcs), ("azure", pages_of_azure)])
def test_listings_have_pages_and_folders(
    api: str, pages: Callable[[Running], tuple[list[str], list[str]]], request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue(f"null_{api}")
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
    for path in ("/l", *(f"/l/{key}" for key in KEYS)):
        connection.request("PUT", path, b"")
        connection.getresponse().read()
    connection.close()
    flat, grouped = pages(server)
    assert flat == [*KEYS]
    assert sorted(grouped) == ["a/1", "a/2", "a/b/", "a/c"]


def test_gcs_moves_and_composes_create_only(null_gcs: Running) -> None:
    options = {"credentials": AnonymousCredentials(), "client_options": {"api_endpoint": null_gcs.url}}
    client = google.cloud.storage.Client(project="bench", **options)
    bucket = client.bucket(WRITTEN)
    parts = [bucket.blob(f"part-{number}") for number in range(2)]
    for number, part in enumerate(parts):
        part.upload_from_string(b"%d" % number)
    bucket.blob("composed").compose(parts, if_generation_match=0)
    assert bucket.blob("composed").download_as_bytes() == b"01"
    composed = bucket.get_blob("composed")
    composed.metadata = {"is": "changed"}
    composed.patch(if_generation_match=composed.generation)
    assert bucket.get_blob("composed").metadata == {"is": "changed"}
    bucket.move_blob(composed, "moved", if_generation_match=0)
    assert bucket.blob("moved").download_as_bytes() == b"01"
    assert not bucket.blob("composed").exists()
    for refused in (
        lambda: bucket.move_blob(parts[0], "moved", if_generation_match=0, retry=None),
        lambda: bucket.move_blob(parts[0], "other", if_source_generation_match=1, retry=None),
        lambda: bucket.blob("moved").compose(parts, if_generation_match=0, retry=None),
    ):
        with pytest.raises(PreconditionFailed):
            refused()
    client.close()


def test_azure_copies_from_urls(null_azure: Running) -> None:
    with ContainerClient.from_connection_string(connection_string(null_azure.url), WRITTEN) as client:
        source = client.upload_blob("source", BLOCK, overwrite=True)
        whole, joined = client.get_blob_client("whole"), client.get_blob_client("joined")
        whole.upload_blob_from_url(source.url, overwrite=True)
        for block, start in (("MQ==", 0), ("Mg==", 5)):
            joined.stage_block_from_url(block, source.url, source_offset=start, source_length=5)
        joined.commit_block_list(["MQ==", "Mg=="])
        assert whole.download_blob().readall() == BLOCK
        assert joined.download_blob().readall() == BLOCK[:10]


def test_s3_counts_checksums_and_conditions(null_s3: Running) -> None:
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "testtest", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=null_s3.url, **keys)
    with Admin(null_s3) as admin:
        admin.make_room()
        admin.start_counting()
        place = {"Bucket": WRITTEN, "Key": "whole"}
        kind = {"ChecksumAlgorithm": "CRC32C", "ChecksumType": "FULL_OBJECT"}
        begun = client.create_multipart_upload(**place, **kind)
        assert {name: begun[name] for name in kind} == kind
        part = {"UploadId": begun["UploadId"], "PartNumber": 1}
        sent = client.upload_part(**place, **part, Body=BLOCK, ChecksumCRC32C="AAAAAA==")
        whole = {"ChecksumCRC32C": "BBBBBB==", "ChecksumType": "FULL_OBJECT"}
        parts = {"Parts": [{"PartNumber": 1, "ETag": sent["ETag"], "ChecksumCRC32C": sent["ChecksumCRC32C"]}]}
        complete = {"UploadId": begun["UploadId"], "MultipartUpload": parts, "IfNoneMatch": "*", **whole}
        completed = client.complete_multipart_upload(**place, **complete)
        found = client.head_object(**place, ChecksumMode="ENABLED")
        assert [{name: answer[name] for name in whole} for answer in (completed, found)] == [whole, whole]
        seen = admin.counts()
    client.close()
    assert (seen["requests"], seen["create_only"], seen["copied"], seen["unfinished"][WRITTEN]) == (4, 1, 0, 0)
    assert seen["stored"][WRITTEN] == [1, MiB]
    assert "CRC-32C" in seen["checksums"]
