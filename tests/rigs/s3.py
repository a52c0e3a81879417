"""The rig of `S3Storage`."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import cache
from typing import Any, Self

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import ClientError

from lakery_cloud import S3Storage
from lakery_cloud.emulators import Emulator
from lakery_cloud.providers.s3.settings import S3_LIMITS
from lakery_cloud.testing import RawObject, StrictS3
from tests.rigs.base import CloudRig, MiB

SMALL_PART = 64 * 1024


class S3Rig(CloudRig):
    """`S3Storage` on a local server or, with a bucket and no server, in the account of the environment."""

    storage_class = S3Storage
    part_size = 5 * MiB

    def __init__(
        self, server_name: str, server: Emulator | StrictS3 | None = None, *, bucket: str | None = None, **settings: Any
    ) -> None:
        super().__init__(server_name, bucket=bucket)
        self.server = server
        self.server_url = server.endpoint_url if server else ""
        self.endpoint_url = self.server_url or None
        self.settings = {**({"region": server.region} if server else {}), **settings}
        if server:
            self.environment = {
                "AWS_ACCESS_KEY_ID": server.access_key_id,
                "AWS_SECRET_ACCESS_KEY": server.secret_access_key,
            }
        self._opened = AsyncExitStack()
        self._client: Any = None

    async def __aenter__(self) -> Self:
        options: dict[str, Any] = {}
        if self.server:
            options = {"endpoint_url": self.server_url, "region_name": self.server.region}
            options["config"] = AioConfig(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                response_checksum_validation="when_required",  # moto's CRC32C of an upload is not of its bytes
            )
        self._client = await self._opened.enter_async_context(self.session().create_client("s3", **options))
        if not self.is_live:
            await self._client.create_bucket(Bucket=self.bucket)
        return self

    async def __aexit__(self, *_: object) -> None:
        async with self._opened:
            if self.is_live:
                await self._remove_all()
                return
            with suppress(ClientError):  # only to save space: tests check for leftovers themselves
                await self._remove_all()
                await self._client.delete_bucket(Bucket=self.bucket)

    async def _remove_all(self) -> None:
        await self.abort_uploads()
        await asyncio.gather(*map(self.delete, await self.keys()))  # ten at a time: the client has so many connections

    def session(self) -> AioSession:
        """A session with the credentials that the server accepts, or with those of the environment."""
        if self.server is None:
            return AioSession()
        return aws_session(self.server.access_key_id, self.server.secret_access_key)

    @classmethod
    def storage_at(cls, endpoint_url: str, **options: Any) -> S3Storage:
        return S3Storage("bucket", session=aws_session("test", "testtest"), endpoint_url=endpoint_url, **options)

    async def abort_uploads(self) -> None:
        """Abort all multipart uploads, as a lifecycle rule would."""
        async for upload in self._uploads():
            await self._client.abort_multipart_upload(
                Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
            )

    async def put(self, key: str, data: bytes) -> None:
        await self._client.put_object(Bucket=self.bucket, Key=self.in_bucket(key), Body=data)

    async def get(self, key: str) -> RawObject | None:
        found = {"Bucket": self.bucket, "Key": self.in_bucket(key)}
        try:
            answer = await self._client.get_object(**found)
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise
        data = await answer["Body"].read()
        tags: list[Any] = []
        with suppress(ClientError):  # stores without tags
            tags = (await self._client.get_object_tagging(**found))["TagSet"]
        return RawObject(
            data,
            answer.get("ContentType"),
            answer.get("ContentEncoding"),
            {tag["Key"]: tag["Value"] for tag in tags},
            answer["Metadata"],
        )

    async def stored_metadata(self, key: str) -> Mapping[str, str]:
        found = await self._client.head_object(Bucket=self.bucket, Key=self.in_bucket(key))
        return dict(found["Metadata"])

    async def delete(self, key: str) -> None:
        await self._client.delete_object(Bucket=self.bucket, Key=self.in_bucket(key))

    async def _bucket_uploads(self) -> AsyncGenerator[str]:
        async for upload in self._uploads():
            yield upload["Key"]

    async def _uploads(self) -> AsyncGenerator[dict[str, Any]]:
        # One page: no test leaves a thousand keys, and SeaweedFS returns no marker for the next page.
        answer = await self._client.list_multipart_uploads(Bucket=self.bucket, Prefix=self._below)
        for upload in answer.get("Uploads", ()):
            yield upload

    async def _bucket_keys(self) -> AsyncGenerator[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._below)
        async for page in pages:
            for entry in page.get("Contents", ()):
                yield entry["Key"]


class SmallPartsRig(S3Rig):
    """The same on a server that accepts small parts, so that tests are quick. URLs can't have its limits."""

    part_size = SMALL_PART

    def __init__(self, server_name: str, server: Emulator | StrictS3, **settings: Any) -> None:
        limits = replace(S3_LIMITS, min_part_size=self.part_size)
        super().__init__(server_name, server, limits=limits, **settings)


@cache
def aws_session(access_key_id: str, secret_access_key: str) -> AioSession:
    """One session for all rigs of a server, since a session takes long to load the description of S3's API."""
    session = AioSession()
    session.set_credentials(access_key_id, secret_access_key)
    return session
