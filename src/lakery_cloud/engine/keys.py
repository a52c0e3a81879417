"""Where objects lie: `<prefix>/<content_hash>` and `<prefix>/.tmp/<UTC stamp>-<uuid4>`.

The layout is for ever: the golden file tests/golden/names.json guards it. Nothing that differs between machines goes
into a key.
"""

import re
import uuid
from datetime import UTC, datetime
from typing import NamedTuple

from lakery_cloud.errors import ConfigError, InvalidRecord, brief

TEMPORARY_FOLDER = ".tmp"
STAMP_FORMAT = "%Y%m%dT%H%M%SZ"
MAX_KEY_BYTES = 1024
"""S3 API Reference, "PutObject"; Cloud Storage, "Object naming requirements"; Azure counts 1,024 characters."""

_LONGEST_NAME = 200  # a sha512 in hexadecimal has 128 characters, a temporary name 58
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_DOTS = re.compile(r"(?:^|[/\\])\.\.?(?:[/\\]|$)")  # some servers take a backslash for a slash
_BUCKET = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]{0,254}")
_HASH = re.compile(r"[0-9a-f]{16,}")
_TEMPORARY = re.compile(rf"(?:^|/){re.escape(TEMPORARY_FOLDER)}/(\d{{8}}T\d{{6}}Z)-[^/]+$")


class Address(NamedTuple):
    """One object in one bucket (on Azure a blob in a container)."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"key {self.key!r} in bucket {self.bucket!r}" if self.key else f"bucket {self.bucket!r}"


class KeySpace:
    """The keys of one storage.

    Args:
        bucket: Name of the bucket.
        prefix: What stands before each key, without the slash that separates it; one slash at its end is dropped.

    Raises:
        ConfigError: The bucket is empty, or the prefix can't be held by every provider.
    """

    def __init__(self, bucket: str, prefix: str = "") -> None:
        if not bucket:
            raise ConfigError("the name of the bucket is empty")
        self.bucket = bucket
        self.prefix = check_prefix(prefix)
        self.root = f"{self.prefix}/" if self.prefix else ""

    def content(self, content_hash: str) -> Address:
        """Where content of this hash lies."""
        return Address(self.bucket, f"{self.root}{content_hash}")

    def temporary(self) -> Address:
        """A place that nobody else uses, whose age can be read off its name."""
        stamp = datetime.now(UTC).strftime(STAMP_FORMAT)
        return Address(self.bucket, f"{self.temporary_root}{stamp}-{uuid.uuid4()}")

    @property
    def temporary_root(self) -> str:
        """What stands before the names of all temporary keys of this storage."""
        return f"{self.root}{TEMPORARY_FOLDER}/"

    def hash_of(self, key: str) -> str | None:
        """The content hash in a content key of this storage; None for any other key."""
        name = key.removeprefix(self.root)
        return name if key == f"{self.root}{name}" and is_hash(name) else None


def is_hash(text: str) -> bool:
    """Whether a text can be a content hash in hexadecimal: of 64 bits at least, in lower case."""
    return _HASH.fullmatch(text) is not None


def is_temporary(key: str) -> bool:
    """Whether a key is a temporary one, by the shape of its name: of this storage or another."""
    return _TEMPORARY.search(key) is not None


def begun_at(key: str) -> datetime | None:
    """When a temporary key was made up, in UTC; None for any other key."""
    found = _TEMPORARY.search(key)
    try:
        return datetime.strptime(found[1], STAMP_FORMAT).replace(tzinfo=UTC) if found else None
    except ValueError:  # no date
        return None


def is_bucket_name(name: str) -> bool:
    """Whether a text can only be the name of a bucket or container: no path, address or ARN, which would lead elsewhere.

    Letters, digits, `.`, `-`, `_` and an initial `$`, at most 255: all that S3 (also under its rules before 2018), Cloud
    Storage and Azure allow.
    """
    return _BUCKET.fullmatch(name) is not None


def check_untrusted_key(key: str) -> None:
    """Refuse a key out of storage data that can't be one of content.

    Raises:
        InvalidRecord: It has a segment `.` or `..`, which a server may resolve to another bucket; a control character or a
            lone surrogate; more characters than any store takes; or it is a temporary key.
    """
    if len(key) > MAX_KEY_BYTES or _DOTS.search(key) or _CONTROL.search(key):
        raise InvalidRecord(
            f"the key {brief(key)} in storage data is none: it may have no segment '.' or '..', no control character, and "
            f"at most {MAX_KEY_BYTES} characters"
        )
    if is_temporary(key):
        raise InvalidRecord(f"the key {brief(key)} in storage data is a temporary one, which holds no content")


def check_prefix(prefix: str) -> str:
    """The prefix without one slash at its end.

    Raises:
        ConfigError: The prefix starts with a slash, has a segment `.` or `..` (HTTP libraries and servers resolve these,
            some between backslashes too), has a control character (a listing in XML can't show
            it), or is too long.
    """
    prefix = prefix.removesuffix("/")
    if prefix.startswith("/"):
        raise ConfigError(f"the prefix {prefix!r} starts with a slash; leave it out")
    if _DOTS.search(prefix):
        raise ConfigError(f"the prefix {prefix!r} has a segment '.' or '..', which is no part of a key")
    if _CONTROL.search(prefix):
        raise ConfigError(f"the prefix {prefix!r} has a control character")
    if len(prefix.encode()) > MAX_KEY_BYTES - _LONGEST_NAME:
        raise ConfigError(
            f"the prefix has {len(prefix.encode())} bytes; at most {MAX_KEY_BYTES - _LONGEST_NAME} leave room for a hash"
        )
    return prefix
