"""What one cloud must be able to do: a dozen small requests with plain arguments and results.

A provider implements `Transport`; everything else is the engine's. Retries of single requests are the SDK's own. An answer
that the algorithm reacts to is a `Signal`; every other failure is a `LakeryCloudError`.
"""

import abc
import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any, ClassVar

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.keys import Address, KeySpace
from lakery_cloud.engine.model import Body, ObjectInfo, PresignedURL, Receipt, Upload
from lakery_cloud.errors import (
    BucketNotFound,
    ConfigError,
    NoStorageData,
)
from lakery_cloud.storage import Digest
from lakery_cloud.streams.parts import Part

ABORT_ATTEMPTS = 3
"""How often to abort: a part that arrives during an abort may survive it (S3 API Reference, "AbortMultipartUpload")."""


class Transport(abc.ABC):
    """The requests of one cloud, over one open client, on one event loop.

    Each method is one request where the provider allows it. Every request passes through `self.requests` (or
    `self.reads` while a body is open), so that a storage never has more of them under way than its settings say.

    Besides what a method says, it raises `BucketNotFound`, `AccessDenied`, `CredentialsError`, `ConfigError`, and
    `StorageUnavailable` when the SDK's retries are used up.
    """

    conditional_writes: bool = True
    """Whether create-only requests work at this endpoint."""
    max_deletes: ClassVar[int] = 1
    """Most objects that `delete_all` takes at a time."""

    def __init__(self, *, max_concurrent_requests: int, max_concurrent_reads: int) -> None:
        self.requests = asyncio.Semaphore(max_concurrent_requests)
        self.reads = asyncio.Semaphore(max_concurrent_reads)

    @abc.abstractmethod
    def checks_hash(self, algorithm: str) -> bool:
        """Whether the store refuses a `put` whose body doesn't have the content hash in its attributes."""

    @abc.abstractmethod
    async def put(self, address: Address, data: bytes, attributes: ObjectAttributes) -> None:
        """Create an object.

        Raises:
            KeyExists: There is one.
            WriteConflict: Somebody else is creating it.
            ConditionUnsupported: The endpoint can't create conditionally.
            IntegrityError: The store got other bytes than the checksum says.
        """

    @abc.abstractmethod
    async def head(self, address: Address) -> ObjectInfo | None:
        """What the store says about an object; None if it (or the bucket) is not there."""

    @abc.abstractmethod
    async def has_bucket(self, bucket: str) -> bool:
        """Whether the bucket is there."""

    @abc.abstractmethod
    def get(
        self, address: Address, *, start: int = 0, stop: int | None = None, version: str | None = None
    ) -> AbstractAsyncContextManager[Body]:
        """Read bytes `start` to `stop` (exclusive; None is the end) as they are stored, never decoded.

        Raises:
            KeyMissing: The object is not there.
            VersionChanged: It is not the version asked for.
        """

    @abc.abstractmethod
    async def delete(self, address: Address) -> None:
        """Delete an object. One that is not there is no error."""

    async def delete_all(self, bucket: str, keys: Sequence[str]) -> None:
        """Delete objects, by one request where the store can. Those that are not there are no error."""
        for key in keys:
            await self.delete(Address(bucket, key))

    @abc.abstractmethod
    def list(self, bucket: str, root: str) -> AsyncIterator[ObjectInfo]:
        """The objects whose key is `root` and a name without a slash."""

    @abc.abstractmethod
    async def tags(self, address: Address) -> Mapping[str, str]:
        """The tags of an object.

        Raises:
            KeyMissing: The object is not there.
        """

    @abc.abstractmethod
    async def begin_upload(self, address: Address, attributes: ObjectAttributes, *, is_temporary: bool) -> Upload:
        """Begin a multipart upload, to a temporary key or to content that stays."""

    @abc.abstractmethod
    async def upload_part(self, upload: Upload, part: Part) -> Receipt:
        """Send one part.

        Raises:
            IntegrityError: The store got other bytes than the checksum says.
        """

    @abc.abstractmethod
    async def copy_part(self, upload: Upload, number: int, source: ObjectInfo, start: int, stop: int) -> Receipt:
        """Make a part out of bytes `start` to `stop` of another object.

        Raises:
            VersionChanged: The source is gone, or no longer the version that `source` says.
        """

    @abc.abstractmethod
    async def complete_upload(
        self, upload: Upload, receipts: Sequence[Receipt], *, size: int, create_only: bool
    ) -> None:
        """Make the object out of its parts, in order of their numbers.

        Raises:
            UploadGone: The upload is not there any more.
            KeyExists, WriteConflict, ConditionUnsupported: As for `put`, if `create_only`.
        """

    @abc.abstractmethod
    async def abort_upload(self, address: Address, upload: Upload | None) -> None:
        """Abort an upload with all its parts; without `upload`, every upload that was begun on the key.

        One that is not there is no error.
        """

    async def list_uploads(self, bucket: str, root: str) -> AsyncIterator[Upload]:
        """Uploads to keys below `root` that were neither completed nor aborted, where the store can tell."""
        nothing: tuple[Upload, ...] = ()
        for upload in nothing:
            yield upload

    async def apply_lifecycle(self, keys: KeySpace, rules: Mapping[str, Any]) -> bool:
        """Put a storage's lifecycle rules among those of its bucket; whether they were not there already.

        All other rules stay as they are. Nothing is sent if ours are there.

        Raises:
            ConfigError: Below the temporary root lies what isn't temporary; or the store can't be told from here.
        """
        raise ConfigError(
            "the lifecycle rules can't be set from here; set what is printed with the provider's own tool"
        )

    @abc.abstractmethod
    async def copy(self, source: ObjectInfo, address: Address, attributes: ObjectAttributes) -> ObjectInfo | None:
        """Create an object out of another one, in the store; what the store says about the copy, if it does.

        Raises:
            KeyExists, WriteConflict, ConditionUnsupported: As for `put`.
            VersionChanged: The source is gone, or no longer the version that `source` says.
        """

    # What one provider alone can tell about a storage, and URLs. Each has a default for those that can't.

    async def server_time(self, bucket: str) -> datetime | None:
        """What the store's clock shows, as any answer about the bucket says, be it a refusal; None if none says it."""
        return None

    def credential_kind(self) -> str | None:
        """The kind of credentials that the client has, in its SDK's words, found without a request; None if it has none.

        `Storage.credential_source` says where they come from.
        """
        return None

    async def put_damaged(self, address: Address) -> bool:
        """Put a few bytes with the checksum of others, to learn whether the store compares. They may be stored then.

        Returns:
            Whether a checksum was sent; False where puts have none.

        Raises:
            IntegrityError: The store has refused them.
        """
        return False

    async def free_space(self, bucket: str) -> int | None:
        """Bytes that there is room for; None where room has no end, or can't be told."""
        return None

    async def presign(
        self, address: Address, *, method: str, expires: timedelta, content: Digest | None
    ) -> PresignedURL:
        """Sign a URL to GET an object, or to PUT `content` if nothing is there. Nothing is sent to the store.

        Raises:
            ConfigError: There are no URLs here, or the content can't be put by one.
            CredentialsError: The credentials can't sign.
        """
        raise ConfigError(f"{address} has no URL: it isn't served by HTTP")


async def missing(transport: Transport, address: Address) -> NoStorageData | BucketNotFound:
    """The error for a key that is not there: many stores answer alike when the bucket is not there either."""
    if await transport.has_bucket(address.bucket):
        return NoStorageData(f"there is no object at {address}; it was deleted, or never written here")
    return BucketNotFound(f"the bucket {address.bucket!r} is not there; create it, or check its name and the endpoint")
