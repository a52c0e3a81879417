"""The null server returns the same responses as moto to all requests of `S3Storage`."""

import hashlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from benchmarks.null_server import Running
from benchmarks.payload import MiB
from lakery_cloud.emulators import Emulator
from lakery_cloud.engine.checksums import hex_to_header

BLOB = b"content"
CHECKSUM = hex_to_header(hashlib.sha256(BLOB).hexdigest())
PART = b"p" * (5 * MiB)


class Asked:
    """A client with a bucket on one server. Its requests return the status and the relevant parts of the response."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.bucket = f"b{uuid.uuid4().hex}"

    def __call__(self, operation: str, *fields: str, **parameters: Any) -> Any:
        try:
            answer = getattr(self.client, operation)(Bucket=self.bucket, **parameters)
        except ClientError as error:
            return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
        if "Body" in answer:
            with answer["Body"] as body:
                answer["Body"] = body.read()
        return answer["ResponseMetadata"]["HTTPStatusCode"], {field: answer.get(field) for field in fields}

    def etag(self, key: str) -> str:
        return str((self.client.head_object(Bucket=self.bucket, Key=key))["ETag"])

    def upload(self, key: str, *parts: bytes) -> dict[str, Any]:
        """Send parts; what completes them."""
        place = {"Bucket": self.bucket, "Key": key}
        upload = (self.client.create_multipart_upload(**place))["UploadId"]
        sent = [
            self.client.upload_part(**place, UploadId=upload, PartNumber=number, Body=part)
            for number, part in enumerate(parts, start=1)
        ]
        receipts = [{"PartNumber": number, "ETag": answer["ETag"]} for number, answer in enumerate(sent, start=1)]
        return {"Key": key, "UploadId": upload, "MultipartUpload": {"Parts": receipts}}


@pytest.fixture(scope="module")
def clients(moto: Emulator, null_s3: Running) -> Iterator[list[Any]]:
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "testtest", "region_name": "us-east-1"}
    config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
    urls = (moto.endpoint_url, null_s3.url)
    clients = [boto3.client("s3", endpoint_url=url, config=config, **keys) for url in urls]
    yield clients
    for client in clients:
        client.close()


@pytest.fixture
def servers(clients: list[Any]) -> list[Asked]:
    servers = [Asked(client) for client in clients]
    for asked in servers:
        asked.client.create_bucket(Bucket=asked.bucket)
    return servers


def put(asked: Asked) -> Any:
    return asked("put_object", Key="k", Body=BLOB, ChecksumSHA256=CHECKSUM)


def put_what_is_there(asked: Asked) -> Any:
    put(asked)
    return asked("put_object", Key="k", Body=BLOB, IfNoneMatch="*")


def put_what_is_not_there(asked: Asked) -> Any:
    return asked("put_object", Key="k", Body=BLOB, IfNoneMatch="*")


def head(asked: Asked) -> Any:
    described = {"ContentType": "text/csv", "ContentEncoding": "gzip", "Metadata": {"lakery-hash": "x"}}
    asked("put_object", Key="k", Body=BLOB, **described)
    return asked("head_object", "ContentLength", *described, Key="k")


def head_of_nothing(asked: Asked) -> Any:
    return asked("head_object", Key="k")


def get(asked: Asked) -> Any:
    put(asked)
    return asked("get_object", "Body", "ContentLength", Key="k", IfMatch=asked.etag("k"))


def get_of_another_version(asked: Asked) -> Any:
    put(asked)
    return asked("get_object", Key="k", IfMatch='"another"')


def get_of_nothing(asked: Asked) -> Any:
    return asked("get_object", Key="k")


def get_of_no_bucket(asked: Asked) -> Any:
    asked.bucket = "nowhere"
    return asked("get_object", Key="k")


def range_in_the_middle(asked: Asked) -> Any:
    put(asked)
    return asked("get_object", "Body", "ContentLength", "ContentRange", Key="k", Range="bytes=2-4")


def range_over_the_end(asked: Asked) -> Any:
    put(asked)
    return asked("get_object", "Body", "ContentRange", Key="k", Range="bytes=5-99")


def range_behind_the_end(asked: Asked) -> Any:
    put(asked)
    return asked("get_object", Key="k", Range="bytes=7-")


def upload_in_parts(asked: Asked) -> Any:
    completed = asked("complete_multipart_upload", "Key", **asked.upload("k", PART, BLOB))
    return completed, asked("get_object", "Body", "ContentRange", Key="k", Range=f"bytes={5 * MiB + 7}-")


def upload_of_one_small_part(asked: Asked) -> Any:
    asked("complete_multipart_upload", **asked.upload("k", BLOB))
    return asked("get_object", "Body", Key="k")


def upload_with_a_part_that_is_not_there(asked: Asked) -> Any:
    request = asked.upload("k", BLOB)
    request["MultipartUpload"]["Parts"][0]["PartNumber"] = 2
    return asked("complete_multipart_upload", **request)


def aborted_upload(asked: Asked) -> Any:
    upload = asked.upload("k", BLOB)
    aborted = asked("abort_multipart_upload", Key="k", UploadId=upload["UploadId"])
    return aborted, asked("list_parts", Key="k", UploadId=upload["UploadId"])


def uploads_under_way(asked: Asked) -> Any:
    asked.upload("a/k", BLOB)
    status, found = asked("list_multipart_uploads", "Uploads", Prefix="a/")
    return status, [upload["Key"] for upload in found["Uploads"]]


def upload_over_what_is_there(asked: Asked) -> Any:
    upload = asked.upload("k", BLOB)
    put(asked)
    return asked("complete_multipart_upload", **upload, IfNoneMatch="*"), asked("get_object", "Body", Key="k")


def copy(asked: Asked) -> Any:
    put(asked)
    source = {"CopySource": {"Bucket": asked.bucket, "Key": "k"}, "CopySourceIfMatch": asked.etag("k")}
    replaced = {"MetadataDirective": "REPLACE", "Metadata": {"a": "b"}, "ContentType": "text/csv"}
    copied = asked("copy_object", Key="c", **source, **replaced)
    return copied, asked("get_object", "Body", "Metadata", "ContentType", Key="c")


def copy_of_nothing(asked: Asked) -> Any:
    return asked("copy_object", Key="c", CopySource={"Bucket": asked.bucket, "Key": "k"})


def copy_of_a_part(asked: Asked) -> Any:
    put(asked)
    upload = asked.upload("c")
    part = {"CopySource": {"Bucket": asked.bucket, "Key": "k"}, "CopySourceRange": "bytes=2-4", "PartNumber": 1}
    copied = asked.client.upload_part_copy(Bucket=asked.bucket, Key="c", UploadId=upload["UploadId"], **part)
    upload["MultipartUpload"]["Parts"] = [{"PartNumber": 1, "ETag": copied["CopyPartResult"]["ETag"]}]
    asked("complete_multipart_upload", **upload)
    return asked("get_object", "Body", Key="c")


def delete(asked: Asked) -> Any:
    put(asked)
    return [asked("delete_object", Key="k"), asked("delete_object", Key="k"), head_of_nothing(asked)]


def listing(asked: Asked) -> Any:
    for key in ("a/b", "a/c/d", "a/e", "f"):
        asked("put_object", Key=key, Body=BLOB)
    status, found = asked("list_objects_v2", "Contents", "CommonPrefixes", Prefix="a/", Delimiter="/")
    return status, [(entry["Key"], entry["Size"]) for entry in found["Contents"]], found["CommonPrefixes"]


def listing_in_pages(asked: Asked) -> Any:
    for key in ("a", "b", "c"):
        asked("put_object", Key=key, Body=BLOB)
    status, first = asked("list_objects_v2", "Contents", "IsTruncated", "NextContinuationToken", MaxKeys=2)
    _, second = asked("list_objects_v2", "Contents", "IsTruncated", ContinuationToken=first["NextContinuationToken"])
    return status, [([entry["Key"] for entry in page["Contents"]], page["IsTruncated"]) for page in (first, second)]


def listing_of_folders_in_pages(asked: Asked) -> Any:
    for key in ("a/1", "a/2", "b/1", "c"):
        asked("put_object", Key=key, Body=BLOB)
    pages, token = [], {}
    while True:
        wanted = ("Contents", "CommonPrefixes", "NextContinuationToken")
        _, page = asked("list_objects_v2", *wanted, Delimiter="/", MaxKeys=1, **token)
        pages.append([*(entry["Key"] for entry in page["Contents"] or ()), page["CommonPrefixes"]])
        if page["NextContinuationToken"] is None:
            return pages
        token = {"ContinuationToken": page["NextContinuationToken"]}


def tags(asked: Asked) -> Any:
    asked("put_object", Key="k", Body=BLOB, Tagging="project=a%2Fb&empty=")
    _, found = asked("get_object_tagging", "TagSet", Key="k")
    return sorted((tag["Key"], tag["Value"]) for tag in found["TagSet"])


QUESTIONS = (
    put,
    put_what_is_there,
    put_what_is_not_there,
    head,
    head_of_nothing,
    get,
    get_of_another_version,
    get_of_nothing,
    get_of_no_bucket,
    range_in_the_middle,
    range_over_the_end,
    range_behind_the_end,
    upload_in_parts,
    upload_of_one_small_part,
    upload_with_a_part_that_is_not_there,
    aborted_upload,
    uploads_under_way,
    upload_over_what_is_there,
    copy,
    copy_of_nothing,
    copy_of_a_part,
    delete,
    listing,
    listing_in_pages,
    listing_of_folders_in_pages,
    tags,
)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.__name__)
def test_null_server_answers_as_moto_does(servers: list[Asked], question: Callable[[Asked], Any]) -> None:
    moto, null = servers
    assert question(null) == question(moto)


def test_head_returns_the_checksum_of_the_put(servers: list[Asked]) -> None:
    _, null = servers  # moto forgets it
    put(null)
    _, found = null("head_object", "ChecksumSHA256", Key="k", ChecksumMode="ENABLED")
    assert found["ChecksumSHA256"] == CHECKSUM
