"""The shapes that pass between the engine and a provider, and the signals to which the algorithm reacts."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.keys import Address
from lakery_cloud.errors import ConfigError, StorageUnavailable


class Signal(Exception):
    """A response to which the algorithm reacts. It never reaches a user."""


class KeyMissing(Signal):
    """The key has no object; the bucket may be missing too."""


class KeyExists(Signal):
    """A create-only request found an object at its key.

    Attributes:
        found: The object, if the transport has looked for it.
    """

    def __init__(self, message: str = "", found: "ObjectInfo | None" = None) -> None:
        super().__init__(message)
        self.found = found


class WriteConflict(Signal):
    """Another write to the key is in progress; retry."""


class VersionChanged(Signal):
    """The object has another version than the request was pinned to."""


class CopyTooLarge(Signal):
    """The store does not copy an object of this size with one request."""


class UploadGone(Signal):
    """The multipart upload does not exist: it was completed or aborted."""


class BodyInterrupted(Signal):
    """The body of a response broke off."""


class BodyTooSlow(BodyInterrupted):
    """The body of a response arrived slower than `min_rate`."""


class Unreachable(StorageUnavailable):
    """No connection was established, so the store received no request."""


class Uncertain(StorageUnavailable):
    """The store may have acted on the request, but no response proves it."""


class Archived(StorageUnavailable):
    """The content must be restored before it can be read. A retry does not help."""


class Full(StorageUnavailable):
    """A quota or the space of the store is used up. A retry does not help."""


class Unsupported(ConfigError):
    """The store does not support something in the request.

    Attributes:
        headers: The headers that the refusal names, in lower case.
    """

    headers: frozenset[str] = frozenset()


class ObjectInfo(NamedTuple):
    """A store's description of one object.

    Attributes:
        address: Bucket and key.
        size: Size in bytes.
        version: ETag or generation: pins reads and guards copies.
        content_hash: `<algorithm>:<hex>` if the store has computed or verified it over the whole object, else None.
        content_type: Media type; None in listings.
        content_encoding: Content coding.
        modified: Time of the last change.
        metadata: The object's own metadata.
        version_id: The store's name for this version in a deletion, if its bucket keeps versions.
        tags: Its tags, if the response has them.
        tag_count: The number of its tags, if the response tells it. To callers without the permission to read tags, some
            stores tell 0.
        storage_class: Its storage class or access tier, in listings that tell it.
        checksums: Algorithm, such as crc32c or md5 -> checksum of the whole object in hexadecimal, in descriptions and
            listings that have it. On some stores, clients can set it.
    """

    address: Address
    size: int
    version: str | None = None
    content_hash: str | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    modified: datetime | None = None
    metadata: Mapping[str, str] = {}
    version_id: str | None = None
    tags: Mapping[str, str] | None = None
    tag_count: int | None = None
    storage_class: str | None = None
    checksums: Mapping[str, str] = {}


class KeptVersion(NamedTuple):
    """A version of an object, in a bucket that keeps versions.

    Attributes:
        address: Bucket and key.
        size: Size in bytes; 0 for a delete marker.
        version_id: The store's name for it in a deletion.
        is_current: Whether it is what the key has now.
    """

    address: Address
    size: int
    version_id: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class Upload:
    """An unfinished multipart upload: an upload id on S3, a session on GCS, a blob of staged blocks on Azure.

    Attributes:
        address: Bucket and key of its object.
        id: The store's name for the upload.
        attributes: Attributes of its object.
        is_temporary: Whether its object is temporary.
        begun: Its beginning, if the store tells.
        has_whole_checksum: Whether the store compares a checksum of the whole object when it is completed.
    """

    address: Address
    id: str = field(repr=False)  # a session of Cloud Storage is a credential of its own
    attributes: ObjectAttributes
    is_temporary: bool = True
    begun: datetime | None = None
    has_whole_checksum: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """The store's receipt for one part.

    Attributes:
        number: Number of the part, from 1.
        etag: The store's name for the part.
        checksum: The checksum sent with it, in the provider's form.
        size: Its size in bytes, if a checksum of the whole object needs it.
    """

    number: int
    etag: str
    checksum: str | None = None
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a store. Sizes in bytes; None is no limit.

    Attributes:
        max_put_size: Largest object of one put request.
        min_part_size: Smallest part except the last.
        max_part_size: Largest part.
        max_parts: Most parts of one upload.
        max_object_size: Largest object.
        max_copy_size: Largest object that one copy request can copy.
        copy_part_size: Size of the parts of a larger copy.
        ordered_parts: Whether parts must be sent one after another.
        part_multiple: The size of every part but the last is a multiple of this.
        equal_parts: Whether all parts but the last must have the same size.
        page_size: Most objects of one page of a listing; None leaves it to the store.
    """

    max_put_size: int
    min_part_size: int
    max_part_size: int
    max_parts: int
    max_object_size: int
    max_copy_size: int | None
    copy_part_size: int
    ordered_parts: bool = False
    part_multiple: int = 1
    equal_parts: bool = False
    page_size: int | None = None


class Body(NamedTuple):
    """The response to a read, while it arrives.

    Attributes:
        info: The object; its `size` is that of the whole object, whatever the range.
        chunks: The bytes as they arrive; raises `BodyInterrupted` when the connection breaks or stalls.
        start: Position of the first byte in the object; None if the store sends the whole object.
    """

    info: ObjectInfo
    chunks: AsyncIterator[bytes]
    start: int | None


@dataclass(frozen=True, slots=True)
class PresignedURL:
    """One request that the holder of the URL can make without credentials. The URL is a credential itself.

    Attributes:
        method: `GET` or `PUT`.
        url: The URL. Don't log it.
        headers: Headers that the request must have, exactly.
        expires_at: Expiry time. The URL expires earlier if the credentials that signed it do.
        pins_content: Whether the store refuses any other body than the content; else only a read finds a wrong one.
    """

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    expires_at: datetime
    pins_content: bool = False


def without_none(**values: Any) -> dict[str, Any]:
    """The arguments that are not None."""
    return {name: value for name, value in values.items() if value is not None}
