"""`Transport`: the requests that a provider implements. Everything else is the engine's.

A response to which the algorithm reacts is a `Signal`; every other failure is a `LakeryCloudError`.
"""

import abc
import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.keys import Address, KeySpace
from lakery_cloud.engine.model import (
    Body,
    KeptVersion,
    KeyExists,
    ObjectInfo,
    PresignedURL,
    Receipt,
    Uncertain,
    Upload,
    VersionChanged,
)
from lakery_cloud.errors import (
    BucketNotFound,
    ConfigError,
    NoStorageData,
)
from lakery_cloud.storage import Digest
from lakery_cloud.streams.limiter import Limiter
from lakery_cloud.streams.parts import Part

T = TypeVar("T")

ABORT_ATTEMPTS = 3
"""Attempts to abort: a part that arrives during an abort may survive it (S3 API Reference, "AbortMultipartUpload")."""


class Transport(abc.ABC):
    """The requests of one cloud, over one open client, on one event loop.

    Each method is one request where the provider allows it. Every request holds a slot of `self.requests` (an open body
    one of `self.reads`), so the settings limit the concurrent requests of a storage.

    Besides the errors in its docstring, every method raises `BucketNotFound`, `AccessDenied`, `CredentialsError`,
    `ConfigError`, and `StorageUnavailable` after the last retry.
    """

    conditional_writes: bool = True
    """Whether the store refuses create-only requests for existing keys; else the transport looks for the object first."""
    uploads_to_content: bool = False
    """Whether an upload may go straight to a content key: nothing is visible before its end, and writers of the same key
    don't disturb each other."""
    copies_of_part: int = 1
    """How often the bytes of a part are in memory while it travels."""
    lists_by_prefix: ClassVar[bool] = True
    """Whether the store finds the keys that begin with a text without a look at all others."""
    missing_bucket: ClassVar[str] = "the bucket {!r} does not exist. Create it, or check its name and the endpoint"
    """The message of an error for a bucket that does not exist."""
    max_deletes: ClassVar[int] = 1
    """Most objects of one `delete_all`."""
    copies_need_description: bool = False
    """Whether `copy_as_is` costs one more request for an object that no `list_described` or `head` has described."""
    store: str | None = None
    """What storages of one class share if one can copy objects of the other inside the store: the endpoint, which on Azure
    is that of an account. None if it can't."""

    def __init__(self, *, max_concurrent_requests: int, max_concurrent_reads: int) -> None:
        self.requests = Limiter(max_concurrent_requests)
        self.reads = asyncio.Semaphore(max_concurrent_reads)

    @abc.abstractmethod
    def checks_hash(self, algorithm: str) -> bool:
        """Whether the store itself verifies the content hash of a `put`."""

    @abc.abstractmethod
    async def put(self, address: Address, data: bytes, attributes: ObjectAttributes) -> None:
        """Create an object.

        Raises:
            KeyExists: The key has an object.
            WriteConflict: Another client is creating it.
            IntegrityError: The store received other bytes than the checksum says.
        """

    @abc.abstractmethod
    async def head(self, address: Address) -> ObjectInfo | None:
        """The store's description of an object; None if the object (or its bucket) does not exist."""

    @abc.abstractmethod
    async def has_bucket(self, bucket: str) -> bool:
        """Whether the bucket exists."""

    @abc.abstractmethod
    def get(
        self, address: Address, *, start: int = 0, stop: int | None = None, version: str | None = None
    ) -> AbstractAsyncContextManager[Body]:
        """Read bytes `start` to `stop` (exclusive; None is the end) as they are stored, never decoded.

        Raises:
            KeyMissing: The object does not exist.
            VersionChanged: It has another version than the given one.
        """

    @abc.abstractmethod
    async def delete(self, address: Address, *, version_id: str | None = None) -> None:
        """Delete an object. A missing object is no error.

        Args:
            address: Bucket and key.
            version_id: The only version of the object. With it, a bucket that keeps versions keeps nothing of the object,
                if the permissions suffice.
        """

    async def delete_version(self, address: Address, version_id: str) -> None:
        """Delete a version of an object so that nothing of it is kept. A missing version is no error.

        Raises:
            AccessDenied: The permissions don't suffice, or the store has to keep the version.
        """
        await self.delete(address, version_id=version_id)

    async def delete_all(self, bucket: str, keys: Mapping[str, str | None]) -> None:
        """Delete objects, with one request where the store can. Missing objects are no error.

        Args:
            bucket: Their bucket.
            keys: Key -> the only version of its object, as for `delete`, if it is known.
        """
        for key, version_id in keys.items():
            await self.delete(Address(bucket, key), version_id=version_id)

    @abc.abstractmethod
    def list(self, bucket: str, root: str) -> AsyncIterator[ObjectInfo]:
        """List the objects whose key begins with `root` and has no slash after it."""

    @abc.abstractmethod
    async def tags(self, address: Address) -> Mapping[str, str]:
        """The tags of an object.

        Raises:
            KeyMissing: The object does not exist.
        """

    @abc.abstractmethod
    async def begin_upload(self, address: Address, attributes: ObjectAttributes, *, is_temporary: bool) -> Upload:
        """Begin a multipart upload, to a temporary key or to a content key."""

    @abc.abstractmethod
    async def upload_part(self, upload: Upload, part: Part) -> Receipt:
        """Send one part.

        Raises:
            IntegrityError: The store received other bytes than the checksum says.
        """

    @abc.abstractmethod
    async def copy_part(self, upload: Upload, number: int, source: ObjectInfo, start: int, stop: int) -> Receipt:
        """Make a part from bytes `start` to `stop` of another object.

        Raises:
            VersionChanged: The source is gone, or has another version than `source` says.
        """

    @abc.abstractmethod
    async def complete_upload(
        self, upload: Upload, receipts: Sequence[Receipt], *, size: int, create_only: bool
    ) -> ObjectInfo | str | None:
        """Make the object from its parts, in order of their numbers.

        The store may make a temporary object later: for `head`, or never if only `copy` follows.

        Returns:
            The object, if the response describes it; else the name of its version for `delete`, if the bucket keeps
            versions.

        Raises:
            UploadGone: The upload no longer exists.
            KeyExists, WriteConflict: As for `put`, if `create_only`.
        """

    @abc.abstractmethod
    async def abort_upload(self, address: Address, upload: Upload | None) -> None:
        """Abort an upload with all its parts; without `upload`, every upload to the key.

        A missing upload is no error.
        """

    async def list_uploads(self, bucket: str, root: str) -> AsyncIterator[Upload]:
        """List the unfinished uploads to keys below `root`, where the store can."""
        nothing: tuple[Upload, ...] = ()
        for upload in nothing:
            yield upload

    async def list_versions(self, bucket: str, root: str) -> AsyncIterator[KeptVersion]:
        """List the versions of the objects that `list` finds, and of deleted ones, where the bucket keeps versions."""
        nothing: tuple[KeptVersion, ...] = ()
        for version in nothing:
            yield version

    async def apply_lifecycle(self, keys: KeySpace, rules: Mapping[str, Any]) -> bool:
        """Add a storage's lifecycle rules to those of its bucket; return whether that changed anything.

        All other rules stay.

        Raises:
            ConfigError: Objects below the temporary root are not temporary, or the store's API can't set rules.
        """
        raise ConfigError(
            "this store's API can't set lifecycle rules; set the printed rules with the provider's own tool"
        )

    @abc.abstractmethod
    async def copy(self, source: ObjectInfo, address: Address, attributes: ObjectAttributes) -> ObjectInfo | None:
        """Create an object from another one, inside the store; return the store's description of it, if it sends one.

        The temporary object of an upload may be gone afterwards; `delete` of it is no error.

        Raises:
            KeyExists, WriteConflict: As for `put`.
            VersionChanged: The source is gone, or has another version than `source` says.
            CopyTooLarge: The store copies so many bytes only in parts, although its documented limit is higher.
        """

    @abc.abstractmethod
    async def copy_as_is(
        self, source: ObjectInfo, address: Address, *, replace: bool, algorithm: str | None = None
    ) -> ObjectInfo | None:
        """Copy an object with its attributes and tags, inside the store. The time of the copy is that of the new object.

        Args:
            source: The object, pinned to its version.
            address: Bucket and key of the copy.
            replace: Whether the copy replaces an object at the key.
            algorithm: The hash algorithm of the content, which the store then computes of the copy, if it can.

        Returns:
            The store's description of the copy, if it sends one.

        Raises:
            KeyExists: The key has an object that must not be replaced.
            WriteConflict, VersionChanged, CopyTooLarge: As for `copy`.
        """

    @abc.abstractmethod
    async def delete_if(self, info: ObjectInfo) -> None:
        """Delete an object if it still has this version. A missing object is no error.

        The check is the store's, where it can. A version is an ETag on S3, which new objects with the same content share.

        Raises:
            VersionChanged: It has another version.
        """

    # Abilities that not every provider has; the defaults are for those without.

    async def list_described(self, bucket: str, root: str) -> AsyncIterator[ObjectInfo]:
        """As `list`, with all attributes of the objects that one more field of the same requests tells."""
        async for info in self.list(bucket, root):
            yield info

    async def server_time(self, bucket: str) -> datetime | None:
        """The store's clock, from any response about the bucket, even a refusal; None if it has no date."""
        return None

    async def retention(self, bucket: str) -> str | None:
        """What keeps objects of a bucket from being deleted; empty if nothing does, None if the store does not tell."""
        return None

    def credential_kind(self) -> str | None:
        """The kind of credentials that the client has, in its SDK's words, found without a request; None if it has none.

        `Storage.credential_source` says where they come from.
        """
        return None

    async def put_damaged(self, address: Address) -> bool:
        """Put a few bytes with a wrong checksum, to learn whether the store compares. It may store them.

        Returns:
            Whether a checksum was sent; False where puts have none.

        Raises:
            IntegrityError: The store has refused them.
        """
        return False

    async def free_space(self, bucket: str) -> int | None:
        """Free space in bytes; None if it is unlimited or unknown."""
        return None

    async def kept_objects(self, bucket: str) -> Sequence[str] | None:
        """What the bucket keeps of deleted objects, a clause each; None if the store does not tell."""
        return None

    async def presign(
        self, address: Address, *, method: str, expires: timedelta, content: Digest | None
    ) -> PresignedURL:
        """Sign a URL to GET an object, or to PUT `content` if the key is free. Nothing is sent to the store.

        Raises:
            ConfigError: The store has no URLs, or the content can't be put by one.
            CredentialsError: The credentials can't sign.
        """
        raise ConfigError(f"{address} has no URL, since it is not served by HTTP")


async def appears(transport: Transport, address: Address, *, seconds: float) -> bool:
    """Whether a key gets an object in time."""
    deadline, pause = time.monotonic() + seconds, 0.1
    while await transport.head(address) is None:
        if time.monotonic() + pause > deadline:
            return False
        await asyncio.sleep(pause)
        pause = min(2 * pause, 5)
    return True


async def copy_once(
    transport: Transport,
    address: Address,
    copy: Callable[[], Awaitable[T]],
    *,
    may_be_running: Callable[[Uncertain], bool],
    seconds: float,
    attempts: int,
) -> T:
    """Copy to a key. If the store may still be copying, wait for the object: a second copy would make the first one slower.

    Args:
        transport: Looks for the object.
        address: The new object.
        copy: Sends one request to copy.
        may_be_running: Whether the store may still be copying after an error.
        seconds: How long a copy may take.
        attempts: Most requests to copy.

    Raises:
        KeyExists: The object appeared.
        Uncertain: It did not.
    """
    attempt = 1
    while True:
        try:
            return await copy()
        except Uncertain as failure:
            if not may_be_running(failure):
                raise
            if await appears(transport, address, seconds=seconds):
                raise KeyExists(str(address)) from None
            if attempt == attempts:
                raise
            attempt += 1


async def missing(transport: Transport, address: Address) -> NoStorageData | BucketNotFound:
    """The error for a missing object: many stores answer the same if the bucket is missing."""
    if await transport.has_bucket(address.bucket):
        return NoStorageData(f"no object at {address}; it was deleted, or never written here")
    return BucketNotFound(transport.missing_bucket.format(address.bucket))


def unasked(signal: VersionChanged) -> Uncertain:
    """The error for a refusal of a condition that the request does not have. It proves nothing."""
    return Uncertain(
        f"{signal}: a refusal of a condition that the request does not have. Check that endpoint_url is this store's API, "
        "and that no proxy answers in its place"
    )


@contextmanager
def unconditional() -> Iterator[None]:
    """Raise `unasked` in place of `VersionChanged` in the block, whose request has no condition."""
    try:
        yield
    except VersionChanged as signal:
        raise unasked(signal) from signal
