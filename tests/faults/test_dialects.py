"""Names of requests: every row of the tables by hand, and the requests of the SDKs to local servers."""

import pytest

from lakery_cloud.engine.transport import Transport
from lakery_cloud.testing import (
    content,
    digest_of,
)
from lakery_cloud.testing.faults.dialect import NEUTRAL_OPERATIONS, Request
from lakery_cloud.testing.faults.dialects import DIALECTS, dialect_of
from lakery_cloud.testing.faults.dialects_azure import AZURE
from lakery_cloud.testing.faults.dialects_gcs import GCS, key_in_multipart
from lakery_cloud.testing.faults.dialects_s3 import S3
from tests.helpers import proxy_before, write, write_stream
from tests.rigs.base import CloudRig

COPY = {"x-amz-copy-source": "/b/other"}
FROM = {"x-ms-copy-source": "https://account/container/other?sig=x"}

S3_REQUESTS = [
    ("PUT", "/b/k", {}, "put_object", "k"),
    ("PUT", "/b/k?x-id=PutObject", {}, "put_object", "k"),
    ("PUT", "/b/a/b%20c", COPY, "copy_object", "a/b c"),
    ("PUT", "/b/k?partNumber=1&uploadId=u", {}, "upload_part", "k"),
    ("PUT", "/b/k?partNumber=1&uploadId=u", COPY, "upload_part_copy", "k"),
    ("PUT", "/b/k?tagging", {}, "put_object_tagging", "k"),
    ("GET", "/b//k/", {}, "get_object", "/k/"),
    ("GET", "/b/k?versionId=1&response-content-type=x&partNumber=2", {}, "get_object", "k"),
    ("GET", "/b/k?tagging", {}, "get_object_tagging", "k"),
    ("GET", "/b/k?attributes", {}, "get_object_attributes", "k"),
    ("GET", "/b/k?uploadId=u&max-parts=2", {}, "list_parts", "k"),
    ("HEAD", "/b/k", {}, "head_object", "k"),
    ("POST", "/b/k?uploads", {}, "create_multipart_upload", "k"),
    ("POST", "/b/k?uploadId=u", {}, "complete_multipart_upload", "k"),
    ("DELETE", "/b/k", {}, "delete_object", "k"),
    ("DELETE", "/b/k?uploadId=u", {}, "abort_multipart_upload", "k"),
    ("DELETE", "/b/k?tagging=", {}, "delete_object_tagging", "k"),
    ("GET", "/b?list-type=2&prefix=a%2F", {}, "list_objects_v2", ""),
    ("GET", "/b/?prefix=a", {}, "list_objects", ""),
    ("GET", "/b?versions", {}, "list_object_versions", ""),
    ("GET", "/b?uploads&prefix=x", {}, "list_multipart_uploads", ""),
    ("GET", "/b?location", {}, "get_bucket_location", ""),
    ("GET", "/b?lifecycle", {}, "get_bucket_lifecycle_configuration", ""),
    ("PUT", "/b?lifecycle", {}, "put_bucket_lifecycle_configuration", ""),
    ("GET", "/b?versioning", {}, "get_bucket_versioning", ""),
    ("HEAD", "/b", {}, "head_bucket", ""),
    ("PUT", "/b/", {}, "create_bucket", ""),
    ("DELETE", "/b", {}, "delete_bucket", ""),
    ("POST", "/b?delete", {}, "delete_objects", ""),
    ("GET", "/", {}, "list_buckets", ""),
    ("GET", "/b/k?acl", {}, "", "k"),
    ("PATCH", "/b/k", {}, "", "k"),
]
GCS_REQUESTS = [
    ("POST", "/upload/storage/v1/b/b/o?uploadType=multipart", {}, "objects.insert", ""),
    ("POST", "/upload/storage/v1/b/b/o?uploadType=media&name=a%2Fb", {}, "objects.insert", "a/b"),
    ("POST", "/upload/storage/v1/b/b/o?uploadType=resumable&name=k", {}, "upload.begin", "k"),
    ("POST", "/resumable/upload/storage/v1/b/b/o?uploadType=resumable&name=k", {}, "upload.begin", "k"),
    ("PUT", "/upload/storage/v1/b/b/o?upload_id=u", {"content-range": "bytes 0-9/*"}, "upload", ""),
    ("PUT", "/upload/resumable/u", {"content-range": "bytes 0-9/10"}, "upload", ""),
    ("PUT", "/upload/storage/v1/b/b/o?upload_id=u", {"content-range": "bytes */*"}, "upload.status", ""),
    ("DELETE", "/upload/storage/v1/b/b/o?upload_id=u", {}, "upload.cancel", ""),
    ("GET", "/storage/v1/b/b/o/a%2Fb?projection=full", {}, "objects.get", "a/b"),
    ("GET", "/storage/v1/b/b/o/k?alt=media", {}, "objects.get_media", "k"),
    ("GET", "/download/storage/v1/b/b/o/k?generation=1", {}, "objects.get_media", "k"),
    ("POST", "/storage/v1/b/b/o/s/rewriteTo/b/c/o/a%2Fd", {}, "objects.rewrite", "a/d"),
    ("POST", "/storage/v1/b/b/o/s/copyTo/b/c/o/d", {}, "objects.copy", "d"),
    ("POST", "/storage/v1/b/b/o/s/moveTo/o/a%2Fd", {}, "objects.move", "a/d"),
    ("POST", "/storage/v1/b/b/o/d/compose", {}, "objects.compose", "d"),
    ("PATCH", "/storage/v1/b/b/o/k", {}, "objects.patch", "k"),
    ("DELETE", "/storage/v1/b/b/o/k", {}, "objects.delete", "k"),
    ("GET", "/storage/v1/b/b/o?prefix=a", {}, "objects.list", ""),
    ("GET", "/storage/v1/b/b", {}, "buckets.get", ""),
    ("DELETE", "/storage/v1/b/b", {}, "buckets.delete", ""),
    ("POST", "/storage/v1/b?project=p", {}, "buckets.insert", ""),
    ("GET", "/storage/v1/b?project=p", {}, "buckets.list", ""),
    ("POST", "/batch/storage/v1", {}, "batch", ""),
    ("GET", "/storage/v1/b/b/iam", {}, "", ""),
]
AZURE_REQUESTS = [
    ("PUT", "/a/c/k", {"x-ms-blob-type": "BlockBlob"}, "put_blob", "k"),
    ("PUT", "/a/c/k", FROM, "copy_blob", "k"),
    ("PUT", "/a/c/k", {**FROM, "x-ms-requires-sync": "true"}, "copy_blob", "k"),
    ("PUT", "/a/c/k", {**FROM, "x-ms-blob-type": "BlockBlob"}, "put_blob_from_url", "k"),
    ("PUT", "/a/c/k?comp=block&blockid=x", {}, "put_block", "k"),
    ("PUT", "/a/c/k?comp=block&blockid=x", FROM, "put_block_from_url", "k"),
    ("PUT", "/a/c/k?comp=blocklist", {}, "put_block_list", "k"),
    ("PUT", "/a/c/k?comp=copy&copyid=1", {"x-ms-copy-action": "abort"}, "abort_copy", "k"),
    ("PUT", "/a/c/k?comp=tags", {}, "set_blob_tags", "k"),
    ("PUT", "/a/c/k?comp=metadata", {}, "set_blob_metadata", "k"),
    ("PUT", "/a/c/k?comp=properties", {}, "set_blob_properties", "k"),
    ("PUT", "/a/c/k?comp=tier", {}, "set_blob_tier", "k"),
    ("PUT", "/a/c/k?comp=lease", {}, "lease_blob", "k"),
    ("GET", "/a/c/x/y%20z", {"x-ms-range": "bytes=0-"}, "get_blob", "x/y z"),
    ("GET", "/a/c/k?comp=blocklist&blocklisttype=uncommitted", {}, "get_block_list", "k"),
    ("GET", "/a/c/k?comp=tags", {}, "get_blob_tags", "k"),
    ("HEAD", "/a/c/k?comp=metadata", {}, "get_blob_metadata", "k"),
    ("HEAD", "/a/c/k?sv=1&sig=2", {}, "get_blob_properties", "k"),
    ("DELETE", "/a/c/k", {}, "delete_blob", "k"),
    ("PUT", "/a/c?restype=container", {}, "create_container", ""),
    ("GET", "/a/c?restype=container", {}, "get_container_properties", ""),
    ("GET", "/a/c?restype=container&comp=list&include=uncommittedblobs", {}, "list_blobs", ""),
    ("DELETE", "/a/c?restype=container", {}, "delete_container", ""),
    ("GET", "/a?comp=list", {}, "list_containers", ""),
    ("GET", "/a/c/k?comp=pagelist", {}, "", "k"),
]
REQUESTS = [
    *((S3, {}, *row) for row in S3_REQUESTS),
    *((GCS, {}, *row) for row in GCS_REQUESTS),
    *((AZURE, {"x-ms-version": "2021-08-06", "host": "127.0.0.1:10000"}, *row) for row in AZURE_REQUESTS),
]


@pytest.mark.parametrize(("dialect", "usual", "method", "target", "headers", "operation", "key"), REQUESTS)
def test_request_is_recognised(dialect, usual, method, target, headers, operation, key) -> None:
    request = Request.of(method, target, {"host": "h", **usual, **headers})
    assert dialect_of(request) is dialect
    assert dialect.recognise(request) == (operation, key)


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_tables_are_whole(dialect) -> None:
    seen = {row[5] for row in REQUESTS if row[0] is dialect} - {""}
    assert seen == set(dialect.operations)
    assert set(dialect.operations.values()) <= NEUTRAL_OPERATIONS | {""}


def test_shared_names_are_the_methods_of_a_transport() -> None:
    methods = {name for name in vars(Transport) if not name.startswith("_")}
    of_one_cloud = {
        "apply_lifecycle",
        "credential_kind",
        "free_space",
        "kept_objects",
        "presign",
        "put_damaged",
        "retention",
        "server_time",
    }
    assert methods - NEUTRAL_OPERATIONS == {
        "checks_hash",
        "conditional_writes",
        "uploads_to_content",
        "delete_all",
        "delete_version",
        "copies_of_part",
        "copy_as_is",
        "delete_if",
        "list_described",
        "list_versions",
        "copies_need_description",
        "lists_by_prefix",
        "max_deletes",
        "missing_bucket",
        "store",
        *of_one_cloud,
    }
    assert methods >= NEUTRAL_OPERATIONS


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("account.blob.core.windows.net", "k/l"),
        ("127.0.0.1", "l"),
        ("127.0.0.1:10000", "l"),
        ("[::1]:10000", "l"),
        ("localhost:10000", "l"),
        ("account.blob.localhost:10000", "k/l"),
    ],
)
def test_account_is_read_from_the_host_or_the_path(host: str, key: str) -> None:
    assert AZURE.recognise(Request.of("GET", "/c/k/l", {"host": host, "x-ms-version": "1"})) == ("get_blob", key)


@pytest.mark.parametrize(
    ("head", "key"),
    [
        (b'--b\r\nContent-Type: application/json\r\n\r\n{"name": "a/\xc3\xa4"}\r\n--b\r\n', "a/ä"),
        (b'--b\nContent-Type: application/json\n\n{"name": "a"}\n--b\n', "a"),
        (b'--b\r\nContent-Type: application/json\r\n\r\n{"name": "a"}', None),
        (b"--b\r\nContent-Type: applic", None),
        (b"", None),
        (b"--b\r\n\r\nno json\r\n--b\r\n", ""),
        (b"--b\r\n\r\n[]\r\n--b\r\n", ""),
    ],
)
def test_key_is_read_from_a_multipart_body(head: bytes, key: str | None) -> None:
    assert key_in_multipart(head) == key


# Requests of the SDKs

WHAT_A_STORAGE_SENDS = {
    "s3": {
        "put_object", "head_object", "create_multipart_upload", "upload_part", "complete_multipart_upload", "copy_object",
        "get_object", "delete_object", "get_object_tagging", "list_objects_v2", "head_bucket",
    },
    "gs": {
        "objects.insert", "upload.begin", "upload", "objects.get_media", "objects.get", "objects.delete", "objects.list",
        "buckets.get",
    },
    "az": {
        "put_blob", "put_block", "put_block_list", "copy_blob", "get_blob", "get_blob_properties", "get_blob_tags",
        "delete_blob", "list_blobs", "get_container_properties",
    },
}  # fmt: skip
TO_THE_CONTENT_KEY = {"objects.compose", "objects.move", "objects.patch", "objects.rewrite"}
"""What depends on the server of Cloud Storage, and on the kind of upload."""


async def use_all(rig: CloudRig) -> None:
    """Write a blob and a stream, and do all else that a storage can."""
    data = content(rig.part_size * 2)
    async with rig.storage(prefix="a b/ä") as storage:
        small = await write(storage, b"small", {"tag": "value"})
        assert await storage.read_data(await write_stream(storage, data)) == data
        assert await storage.find(digest_of(b"small")) == small
        assert (await storage.stat(small)).tags == {"tag": "value"}
        assert len([info async for info in storage.list()]) == 2
        with pytest.raises(LookupError):
            await storage.read_data(storage.storage_data_of(digest_of(b"missing")))
        await storage.delete(small)


async def test_requests_of_storages_are_recognised(cloud_rig: CloudRig) -> None:
    if cloud_rig.is_live:
        pytest.skip("no proxy stands before a real account")
    async with proxy_before(cloud_rig) as proxy:
        await use_all(cloud_rig)
    sent = {exchange.operation for exchange in proxy.exchanges}
    expected = WHAT_A_STORAGE_SENDS[cloud_rig.storage_class.url_scheme]
    assert "" not in sent
    assert expected - sent <= {"head_object", "upload.begin", "upload"}
    assert sent - expected <= TO_THE_CONTENT_KEY
    assert proxy.exchanges_of("copy") or "objects.compose" in sent
    digest = digest_of(b"small")["content_hash"]
    assert {exchange.key for exchange in proxy.exchanges_of("put")} >= {f"a b/ä/{digest}"}
    assert all("a b/ä/.tmp/" in exchange.key for exchange in proxy.exchanges_of("upload_part"))
