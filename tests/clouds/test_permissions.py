"""The policies of docs/permissions.md allow what arrives at a server of each cloud, and nothing that never does."""

import json
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

import pytest
import yaml

from lakery_cloud import NoStorageData, ObjectStorage, StorageRegistry
from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.refusals import RefusalRules
from lakery_cloud.maintenance import CollectJob, VerifyJob, run_job, store_time, sweep
from lakery_cloud.maintenance.collect import restore_quarantined
from lakery_cloud.maintenance.live import LiveSet
from lakery_cloud.maintenance.shards import EVERYTHING
from lakery_cloud.providers.azure.refusals import RULES as AZURE
from lakery_cloud.providers.gcs.refusals import RULES as GCS
from lakery_cloud.providers.s3.refusals import RULES as S3
from lakery_cloud.streams.parts import Part
from lakery_cloud.testing import S3_PROFILES, Exchange, content, digest_of
from tests.conftest import rig_on
from tests.helpers import TAGS, blob_stream, proxy_before, write, write_stream
from tests.rigs.base import CloudRig
from tests.rigs.pairs import LOCAL_PAIRS, PROFILE_PAIRS, Pair
from tests.rigs.s3_double import S3DoubleRig

PAGE = (Path(__file__).parents[2] / "docs" / "permissions.md").read_text("utf-8")
CLOUDS = {"s3": "s3", "gs": "gcs", "az": "azure"}
"""Scheme -> the beginning of the names of the page's files."""
AZURE_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
LATER = timedelta(days=30)

cloud_rig = rig_on(
    *(pair for pair in (*PROFILE_PAIRS, *LOCAL_PAIRS) if pair.name in ("s3-aws", "gcs-strict", "azure-azurite")),
    Pair("s3-versioned", lambda double: S3DoubleRig(S3_PROFILES["aws-versioned"], double), "strict_s3"),
)


class Need(NamedTuple):
    """A permission, and on S3 the resource for which a request needs it."""

    permission: str
    resource: str = ""


# What each request needs.

S3_NEEDS: Mapping[str, str] = {
    "put_object": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject",
    "copy_object": "s3:PutObject",
    "upload_part_copy": "s3:PutObject",
    "get_object": "s3:GetObject",
    "head_object": "s3:GetObject",
    "get_object_tagging": "s3:GetObjectTagging",
    "delete_object": "s3:DeleteObject",
    "delete_objects": "s3:DeleteObject",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "list_parts": "s3:ListMultipartUploadParts",
    "list_objects_v2": "s3:ListBucket",
    "head_bucket": "s3:ListBucket",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
    "list_object_versions": "s3:ListBucketVersions",
}
"""Amazon S3 User Guide, "Required permissions for Amazon S3 API operations"."""
S3_OF_VERSIONS = {
    "s3:GetObject": "s3:GetObjectVersion",
    "s3:GetObjectTagging": "s3:GetObjectVersionTagging",
    "s3:DeleteObject": "s3:DeleteObjectVersion",
}
GCS_NEEDS: Mapping[str, tuple[str, ...]] = {
    "objects.insert": ("storage.objects.create",),
    "upload.begin": ("storage.objects.create",),
    "upload": (),
    "upload.status": (),
    "upload.cancel": (),
    "objects.get": ("storage.objects.get",),
    "objects.get_media": ("storage.objects.get",),
    "objects.patch": ("storage.objects.get", "storage.objects.update"),
    "objects.move": ("storage.objects.create", "storage.objects.get", "storage.objects.delete"),
    "objects.rewrite": ("storage.objects.create", "storage.objects.get", "storage.objects.delete"),
    "objects.delete": ("storage.objects.delete",),
    "objects.list": ("storage.objects.list",),
    "buckets.get": ("storage.buckets.get",),
}
"""Cloud Storage, "IAM permissions for JSON methods". A rewrite needs to delete where it replaces an object."""
AZURE_NEEDS: Mapping[str, tuple[str, ...]] = {
    "put_blob": ("write",),
    "put_block": ("write",),
    "put_block_list": ("write",),
    "put_block_from_url": ("write", "read"),
    "put_blob_from_url": ("write", "read"),
    "copy_blob": ("write", "read"),
    "get_blob": ("read",),
    "get_blob_properties": ("read",),
    "get_block_list": ("read",),
    "list_blobs": ("read",),
    "get_blob_tags": ("tags/read",),
    "delete_blob": ("delete",),
    "get_container_properties": (),
}
"""Microsoft Learn, "Authorize with Microsoft Entra ID", "Permissions for blob data operations"."""


def needs_of_s3(exchange: Exchange, bucket: str) -> Iterator[Need]:
    """What a request to S3 needs."""
    permission = S3_NEEDS[exchange.operation]
    query = dict(parse_qsl(exchange.target.partition("?")[2], keep_blank_values=True))
    key = "reports/those in its body" if exchange.operation == "delete_objects" else exchange.key
    own = f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket}"
    if "versionId" in query:
        permission = S3_OF_VERSIONS[permission]
    yield Need(permission, own)
    if "x-amz-tagging" in exchange.headers:
        yield Need("s3:PutObjectTagging", own)
    if source := unquote(exchange.headers.get("x-amz-copy-source", "")):
        path, _, version = source.partition("?versionId=")
        where = f"arn:aws:s3:::{path.removeprefix('/')}"
        for read in ("s3:GetObject", "s3:GetObjectTagging"):
            if read == "s3:GetObject" or exchange.headers.get("x-amz-tagging-directive") != "REPLACE":
                yield Need(S3_OF_VERSIONS[read] if version else read, where)
        if exchange.headers.get("x-amz-tagging-directive") != "REPLACE" and exchange.operation == "copy_object":
            yield Need("s3:PutObjectTagging", own)


def needs_of_gcs(exchange: Exchange, _: str) -> Iterator[Need]:
    """What a request to Cloud Storage needs."""
    yield from map(Need, GCS_NEEDS[exchange.operation])


def needs_of_azure(exchange: Exchange, _: str) -> Iterator[Need]:
    """What a request to Azure needs."""
    if exchange.operation == "get_container_properties":
        yield Need(AZURE_BLOBS.removesuffix("blobs") + "read")
    yield from (Need(f"{AZURE_BLOBS}/{name}") for name in AZURE_NEEDS[exchange.operation])
    copies_tags = exchange.headers.get("x-ms-copy-source-tag-option") == "COPY"
    if copies_tags:
        yield Need(f"{AZURE_BLOBS}/tags/read")
    if copies_tags or "x-ms-tags" in exchange.headers:
        yield Need(f"{AZURE_BLOBS}/tags/write")


NEEDS: Mapping[str, Callable[[Exchange, str], Iterator[Need]]] = {
    "s3": needs_of_s3,
    "gcs": needs_of_gcs,
    "azure": needs_of_azure,
}


# What each file of the page grants.


def file_of(name: str) -> str:
    """The content of a file of the page."""
    found = re.search(rf'^```\w+ title="{re.escape(name)}"\n(.*?)^```$', PAGE, flags=re.MULTILINE | re.DOTALL)
    assert found, f"the page has no file {name}"
    return found[1]


def grants_of(cloud: str, role: str, bucket: str = "my-bucket") -> AbstractSet[Need]:
    """What a file grants, with patterns of resources on S3."""
    if cloud == "gcs":
        return {Need(name) for name in yaml.safe_load(file_of(f"gcs-{role}.yaml"))["includedPermissions"]}
    found = json.loads(file_of(f"{cloud}-{role}.json"))
    if cloud == "azure":
        return {Need(name) for name in (*found["Actions"], *found["DataActions"])}
    return {
        Need(action, statement["Resource"].replace("my-bucket", bucket))
        for statement in found["Statement"]
        for action in statement["Action"]
    }


# What each role does.


class BrokenSourceError(Exception):
    pass


async def broken(data: bytes) -> AsyncGenerator[bytes]:
    yield data
    raise BrokenSourceError


async def write_and_read(rig: CloudRig, storage: ObjectStorage[Any]) -> None:
    known, unknown = (content(rig.part_size * 2 + 1, seed=seed) for seed in range(2))
    for _ in range(2):
        stored = await write(storage, b"blob", TAGS)
        await write_stream(storage, unknown, TAGS)
        await StorageRegistry([storage]).save_stream(blob_stream([known]), digest=digest_of(known), tags=TAGS)
    with pytest.raises(BrokenSourceError):
        await write_stream(storage, broken(unknown[::-1]))
    await read(rig, storage)
    assert await storage.read_data(stored) == b"blob"


async def read(rig: CloudRig, storage: ObjectStorage[Any]) -> None:
    stored = [await storage.digest_of(info.address.key.rpartition("/")[2]) async for info in storage.list()]
    assert stored
    for digest in stored:
        found = await storage.find(digest)
        assert len(await storage.read_data(found)) == digest["content_size"]
        await storage.stat(found)
    with pytest.raises(NoStorageData):
        await storage.read_data(storage.storage_data_of(digest_of(b"missing")))


async def leave_something(rig: CloudRig, storage: ObjectStorage[Any]) -> None:
    """Make the leftovers of killed writers."""
    transport = await storage.transport()
    attributes = ObjectAttributes("text/plain", None, {}, {})
    upload = await transport.begin_upload(storage.keys.temporary(), attributes, is_temporary=True)
    await transport.upload_part(upload, Part(1, 0, (content(rig.part_size),), is_last=False))
    await rig.put(rig.own_key(storage.keys.temporary().key), b"a leftover")


async def maintain(rig: CloudRig, storage: ObjectStorage[Any]) -> None:
    assert [leftover async for leftover in sweep(storage, older_than=timedelta(0))]
    [_ async for _ in run_job(VerifyJob(storage), [EVERYTHING])]
    for after in (LATER, 2 * LATER):
        with LiveSet() as live:
            began = await store_time(storage) + after
            job = CollectJob(storage, live=live, began=began, dry_run=False)
            [_ async for _ in run_job(job, [EVERYTHING])]
            if after == LATER:
                one = digest_of(b"blob")["content_hash"]
                assert [each async for each in restore_quarantined(storage, [one])]


UNUSED: Mapping[tuple[str, str], AbstractSet[str]] = {
    # A bucket without versions, and uploads whose first response is lost.
    ("aws", "writer"): {"s3:DeleteObjectVersion", "s3:ListBucketMultipartUploads"},
    ("aws", "maintenance"): {"s3:DeleteObjectVersion"},
    # A bucket with versions.
    ("aws-versioned", "writer"): {"s3:DeleteObject", "s3:ListBucketMultipartUploads"},
}
"""Store and role -> permissions that no request here needs."""


@pytest.mark.parametrize("role", ["writer", "reader", "maintenance"])
async def test_a_role_allows_its_requests_and_no_others(cloud_rig: CloudRig, role: str) -> None:
    cloud = CLOUDS[cloud_rig.storage_class.url_scheme]
    granted = grants_of(cloud, role, cloud_rig.bucket)
    act = {"writer": write_and_read, "reader": read, "maintenance": maintain}[role]
    async with proxy_before(cloud_rig) as proxy, cloud_rig.storage(prefix="reports") as storage:
        if role != "writer":
            for data in (b"blob", b"another"):
                await write(storage, data, TAGS)
            await leave_something(cloud_rig, storage)
        proxy.exchanges.clear()
        await act(cloud_rig, storage)
        needed = {need for exchange in proxy.exchanges for need in NEEDS[cloud](exchange, cloud_rig.bucket)}
    refused = {need for need in needed if not any(_allows(grant, need) for grant in granted)}
    assert not refused
    unused = {grant.permission for grant in granted if not any(_allows(grant, need) for need in needed)}
    assert unused == UNUSED.get((cloud_rig.name.split()[-1], role), set())


def _allows(grant: Need, need: Need) -> bool:
    return grant.permission == need.permission and fnmatchcase(need.resource, grant.resource or "*")


@pytest.mark.parametrize(("cloud", "rules"), [("s3", S3), ("gcs", GCS), ("azure", AZURE)])
def test_what_the_doctor_advises_to_grant_is_on_the_page(cloud: str, rules: RefusalRules) -> None:
    advice = " ".join([*rules.grants.values(), rules.grant])
    names = re.findall(r"s3:\w+|storage\.\w+\.\w+|Storage Blob Data \w+", advice)
    assert names
    for name in names:
        assert name in PAGE, name


def test_a_missing_permission_is_noticed() -> None:
    grant = Need("s3:PutObject", "arn:aws:s3:::my-bucket/reports/*")
    assert _allows(grant, Need("s3:PutObject", "arn:aws:s3:::my-bucket/reports/abc"))
    assert not _allows(grant, Need("s3:PutObject", "arn:aws:s3:::my-bucket/other/abc"))
    assert not _allows(grant, Need("s3:GetObject", "arn:aws:s3:::my-bucket/reports/abc"))
