"""The shapes that pass between the engine and a cloud, and the answers that the algorithm reacts to."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.keys import Address
from lakery_cloud.errors import (
    StorageUnavailable,
)


class Signal(Exception):
    """An answer of the store that the algorithm knows how to go on from. It never reaches a user."""


class KeyMissing(Signal):
    """There is no object at the key; the bucket may be missing too."""


class KeyExists(Signal):
    """A create-only request found an object at its key."""


class WriteConflict(Signal):
    """Another write to the key is under way; ask again."""


class ConditionUnsupported(Signal):
    """The endpoint refused the request because it knows no conditional writes; the transport remembers that."""


class VersionChanged(Signal):
    """The object is no longer the version that the request was pinned to."""


class UploadGone(Signal):
    """The store knows no such multipart upload: it was completed or aborted."""


class BodyInterrupted(Signal):
    """The body of an answer broke off."""


class Unreachable(StorageUnavailable):
    """No connection came about, so no request was seen by the store."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says about one object.

    Attributes:
        address: Bucket and key.
        size: Size in bytes.
        version: ETag or generation: pins reads and guards copies.
        content_hash: `<algorithm>:<hex>` where the store computed or checked it over the whole object, else None.
        content_type: Media type, None where the answer doesn't tell (listings).
        content_encoding: Content coding.
        modified: Time of the last change.
        metadata: The object's own metadata.
    """

    address: Address
    size: int
    version: str | None = None
    content_hash: str | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    modified: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload that was begun: an upload id on S3, a session on GCS, a blob of staged blocks on Azure.

    Attributes:
        address: Where its object will be.
        id: What the store calls the upload.
        attributes: What the object gets.
        is_temporary: Whether the object is temporary, and not content that stays.
        begun: When it was begun, where the store tells.
    """

    address: Address
    id: str = field(repr=False)  # a session of Cloud Storage is a credential of its own
    attributes: ObjectAttributes
    is_temporary: bool = True
    begun: datetime | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The store's answer to one part.

    Attributes:
        number: Number of the part, from 1.
        etag: What the store calls the part.
        checksum: The checksum that was sent with it, in the provider's form.
    """

    number: int
    etag: str
    checksum: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a store can take. Sizes in bytes; None is no limit.

    Attributes:
        max_put_size: Largest object of one put request.
        min_part_size: Smallest part that is not the last.
        max_part_size: Largest part.
        max_parts: Most parts of one upload.
        max_object_size: Largest object.
        max_copy_size: Largest object that one copy request can copy.
        copy_part_size: Size of the parts of a larger copy.
        ordered_parts: Whether parts must be sent one after another.
        part_multiple: Every part but the last has a multiple of so many bytes.
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


@dataclass(frozen=True, slots=True)
class Body:
    """The answer to a read, while it arrives.

    Attributes:
        info: The object; its `size` is that of the whole object, whatever range was asked for.
        chunks: The bytes as they arrive; raises `BodyInterrupted` when the connection breaks or stalls.
        start: Position of the first of them in the object; None where the store gives the whole object.
    """

    info: ObjectInfo
    chunks: AsyncIterator[bytes]
    start: int | None


@dataclass(frozen=True, slots=True)
class PresignedURL:
    """One request that whoever has the URL may make, without credentials of their own. It is a credential itself.

    Attributes:
        method: `GET` or `PUT`.
        url: Where. Don't log it.
        headers: What the request must carry besides, to the letter.
        expires_at: When it ends, or earlier if it was signed with credentials that end before.
        pins_content: Whether the store refuses a body that is not the content; else only a read finds that out.
    """

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    expires_at: datetime
    pins_content: bool = False


def without_none(**values: Any) -> dict[str, Any]:
    """The arguments of a request that have a value."""
    return {name: value for name, value in values.items() if value is not None}
