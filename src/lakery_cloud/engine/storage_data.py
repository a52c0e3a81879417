"""Storage data: its permanent shape, and the checks of untrusted storage data. Nothing here does I/O."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from lakery_cloud.digest import is_size
from lakery_cloud.engine.bucket_names import BucketNames
from lakery_cloud.engine.keys import Address, check_untrusted_key
from lakery_cloud.errors import AccessDenied, IntegrityError, InvalidRecord, brief
from lakery_cloud.storage import Digest

_QUALIFIED_HASH = re.compile(r"[\w/-]{1,64}:[0-9a-fA-F]{1,512}", re.ASCII)


class Location(NamedTuple):
    """Storage data after its checks.

    Attributes:
        address: Bucket and key.
        content_hash: `<algorithm>:<hex>`; None in storage data of other projects, which can't be verified.
        size: Size in bytes; None if it is unknown.
    """

    address: Address
    content_hash: str | None
    size: int | None


def qualified_hash(digest: Digest) -> str:
    """The hash of a digest as `<algorithm>:<hex>`."""
    return f"{digest['content_hash_algorithm']}:{digest['content_hash']}"


def make_storage_data(place_names: Sequence[str], address: Address, content_hash: str, size: int) -> dict[str, Any]:
    """The storage data of content at an address. Its shape is permanent.

    Args:
        place_names: The names of bucket and key in storage data, or of the key alone.
        address: Bucket and key.
        content_hash: `<algorithm>:<hex>`.
        size: Size in bytes.
    """
    *bucket_name, key_name = place_names
    data: dict[str, Any] = {bucket_name[0]: address.bucket} if bucket_name else {}
    data[key_name], data["hash"], data["size"] = address.key, content_hash, size
    return data


def read_address(
    storage_data: Mapping[str, Any], place_names: Sequence[str], *, own_bucket: str, storage: str
) -> Address:
    """The bucket and key in storage data. Whether it may point there is not checked.

    Raises:
        InvalidRecord: A name is missing or no text.
    """
    *bucket_name, key_name = place_names
    bucket, key = storage_data.get(bucket_name[0]) if bucket_name else own_bucket, storage_data.get(key_name)
    if not (isinstance(bucket, str) and bucket and isinstance(key, str) and key):
        needed = " and ".join(f"a {name}" for name in place_names)
        raise InvalidRecord(f"storage data of {storage} needs {needed}, not {brief(storage_data)}")
    return Address(bucket, key)


def read_hash_and_size(storage_data: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """The hash and size in storage data.

    Raises:
        InvalidRecord: One of them is malformed.
    """
    content_hash, size = storage_data.get("hash"), storage_data.get("size")
    if content_hash is not None and not (isinstance(content_hash, str) and _QUALIFIED_HASH.fullmatch(content_hash)):
        raise InvalidRecord(f"the hash in storage data must be <algorithm>:<hex>, not {brief(content_hash)}")
    if size is not None and not is_size(size):
        raise InvalidRecord(f"the size in storage data must be a number of bytes, not {brief(size)}")
    return content_hash, size


def check_address(
    address: Address, *, own_bucket: str, allowed: Collection[str] | None, names: BucketNames, storage: str
) -> None:
    """Refuse an address in storage data that leads to another bucket than allowed, or to no content.

    Args:
        address: Bucket and key.
        own_bucket: The storage's bucket, which is always allowed.
        allowed: Other buckets; None is any whose name means nothing else to the SDK.
        names: The names of buckets.
        storage: Permanent name of the storage, for messages.

    Raises:
        InvalidRecord: The bucket or the key is malformed.
        AccessDenied: The bucket is not allowed.
    """
    check_untrusted_key(address.key)
    if address.bucket == own_bucket or address.bucket in (allowed or ()):
        return
    if not names.is_trusted(address.bucket):
        raise InvalidRecord(
            f"storage data of {storage} points to {brief(address.bucket)}, which is no name of a {names.setting}, or leads "
            "to another host; add it to allowed_buckets if you trust it"
        )
    if allowed is not None:
        raise AccessDenied(
            f"storage data points to the bucket {brief(address.bucket)}, which is neither {own_bucket!r} nor among "
            "allowed_buckets; add it there if you trust it"
        )


def check_agreement(location: Location, digest: Digest) -> None:
    """Refuse storage data that contradicts the digest of its record.

    Raises:
        IntegrityError: The hash or the size differs.
    """
    content_hash = qualified_hash(digest)
    if location.content_hash not in (None, content_hash) or location.size not in (None, digest["content_size"]):
        raise IntegrityError(
            f"the record says {content_hash} and {digest['content_size']} bytes, but its storage data says "
            f"{location.content_hash} and {location.size} bytes"
        )
