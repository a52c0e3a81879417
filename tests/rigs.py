"""The rigs of our own storages."""

import uuid
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

import aioboto3
from aiobotocore.config import AioConfig
from botocore.exceptions import ClientError

from lakery_cloud.emulators import Emulator
from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.providers.file import FileStorage, _attributes
from lakery_cloud.providers.memory import MemoryObject, MemoryStorage
from lakery_cloud.providers.s3 import S3Storage
from lakery_cloud.testing import RawObject, Rig

MiB = 1024**2


class MemoryRig(Rig):
    """`MemoryStorage`: storages of one rig share their contents."""

    name = "MemoryStorage"
    part_size = 1000
    cannot: ClassVar = {"test_missing_bucket_is_bucket_not_found": "memory has no buckets"}

    def __init__(self) -> None:
        self._contents = MemoryStorage().contents

    def storage(self, **options: Any) -> MemoryStorage:
        storage = MemoryStorage(**{"part_size": self.part_size, **options})
        storage.contents = self._contents
        return storage

    def elsewhere(self) -> MemoryStorage:
        return MemoryStorage()

    async def put(self, key: str, data: bytes) -> None:
        plain = ObjectAttributes("application/octet-stream", None, {}, {})
        self._contents.objects[key] = MemoryObject(data, plain, str(uuid.uuid4()), None)

    async def get(self, key: str) -> RawObject | None:
        found = self._contents.objects.get(key)
        if found is None:
            return None
        attributes = found.attributes
        return RawObject(
            found.data, attributes.content_type, attributes.content_encoding, attributes.tags, attributes.metadata
        )

    async def delete(self, key: str) -> None:
        self._contents.objects.pop(key, None)

    async def keys(self) -> list[str]:
        return list(self._contents.objects)

    async def uploads(self) -> list[str]:
        return [upload.address.key for upload, _ in self._contents.uploads.values()]


class FileRig(Rig):
    """`FileStorage` in a folder of its own."""

    name = "FileStorage"
    part_size = 1000

    def __init__(self, root: Path) -> None:
        self._root = root / "root"
        self._elsewhere = root / "elsewhere"

    def storage(self, **options: Any) -> FileStorage:
        return FileStorage(self._root, **{"part_size": self.part_size, **options})

    def elsewhere(self) -> FileStorage:
        return FileStorage(self._elsewhere, create=False, part_size=self.part_size)

    async def put(self, key: str, data: bytes) -> None:
        self._root.mkdir(exist_ok=True)
        (self._root / key).write_bytes(data)

    async def get(self, key: str) -> RawObject | None:
        path = self._root / key
        if not path.is_file():
            return None
        found = _attributes(path)
        return RawObject(path.read_bytes(), found.content_type, found.content_encoding, found.tags, found.metadata)

    async def delete(self, key: str) -> None:
        (self._root / key).unlink(missing_ok=True)

    async def keys(self) -> list[str]:
        return [str(path.relative_to(self._root)) for path in self._root.rglob("*") if path.is_file()]

    async def uploads(self) -> list[str]:
        return []


class S3Rig(Rig):
    """`S3Storage` on a local server, in a bucket of its own. Its own client goes around the storage."""

    part_size = 5 * MiB

    def __init__(self, server: Emulator, cannot: Mapping[str, str], *, endpoint_url: str | None = None) -> None:
        self.name = f"S3Storage on {getattr(server, 'kind', type(server)).__name__}"
        self.cannot = cannot
        self.bucket = f"rig-{uuid.uuid4()}"
        self.endpoint_url = endpoint_url or server.endpoint_url
        self._server = server
        self._opened = AsyncExitStack()
        self._client: Any = None

    async def __aenter__(self) -> Self:
        config = AioConfig(signature_version="s3v4", s3={"addressing_style": "path"})
        self._client = await self._opened.enter_async_context(
            self.session().client(
                "s3", endpoint_url=self._server.endpoint_url, region_name=self._server.region, config=config
            )
        )
        await self._client.create_bucket(Bucket=self.bucket)
        return self

    async def __aexit__(self, *_: object) -> None:
        # Only for room on the server: what a test must not leave, it has looked for itself.
        with suppress(ClientError):
            await self.abort_uploads()
            for key in await self.keys():
                await self._client.delete_object(Bucket=self.bucket, Key=key)
            await self._client.delete_bucket(Bucket=self.bucket)
        await self._opened.aclose()

    def session(self) -> aioboto3.Session:
        return _session(self._server.access_key_id, self._server.secret_access_key)

    def storage(self, **options: Any) -> S3Storage:
        # Credentials from the environment, where the fixture put them: so that storages can be pickled.
        defaults = {"part_size": self.part_size, "endpoint_url": self.endpoint_url, "region": self._server.region}
        return S3Storage(self.bucket, **{**defaults, **options})

    def elsewhere(self) -> S3Storage:
        return S3Storage("nowhere-at-all", endpoint_url=self.endpoint_url, region=self._server.region)

    async def abort_uploads(self) -> None:
        """Abort all multipart uploads, as a lifecycle rule would."""
        for upload in (await self._client.list_multipart_uploads(Bucket=self.bucket)).get("Uploads", ()):
            await self._client.abort_multipart_upload(
                Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
            )

    async def put(self, key: str, data: bytes) -> None:
        await self._client.put_object(Bucket=self.bucket, Key=key, Body=data)

    async def get(self, key: str) -> RawObject | None:
        try:
            answer = await self._client.get_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise
        data = await answer["Body"].read()
        tags = (await self._client.get_object_tagging(Bucket=self.bucket, Key=key))["TagSet"]
        return RawObject(
            data,
            answer.get("ContentType"),
            answer.get("ContentEncoding"),
            {tag["Key"]: tag["Value"] for tag in tags},
            answer["Metadata"],
        )

    async def delete(self, key: str) -> None:
        await self._client.delete_object(Bucket=self.bucket, Key=key)

    async def keys(self) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [entry["Key"] async for page in pages for entry in page.get("Contents", ())]

    async def uploads(self) -> list[str]:
        answer = await self._client.list_multipart_uploads(Bucket=self.bucket)
        return [upload["Key"] for upload in answer.get("Uploads", ())]


@cache
def _session(access_key_id: str, secret_access_key: str) -> aioboto3.Session:
    """One session for all rigs of a server, since a session takes long to load the description of S3's API."""
    return aioboto3.Session(aws_access_key_id=access_key_id, aws_secret_access_key=secret_access_key)


# What a server can't show: name of the test -> the reason. FACTS about the servers stand in docs/emulators.md.
STORES_WRONG_CHECKSUMS = "it stores a body whose ChecksumSHA256 is wrong"
S3_CANNOT: Mapping[str, Mapping[str, str]] = {
    "moto": {"test_blob_with_another_hash_is_refused": STORES_WRONG_CHECKSUMS},
    "localstack": {},
    "seaweedfs": {
        "test_prefix_with_an_empty_segment_is_kept_or_refused": "its keys are paths, where a//b is a/b",
    },
}
