"""The keys of objects: `<prefix>/<content_hash>`, `<prefix>/.tmp/<UTC stamp>-<uuid4>` and `<prefix>/.trash/<content_hash>`.

The layout is permanent, guarded by the golden files tests/golden/names.json and trash.json. A key is the same on every
machine.
"""

import re
import uuid
from datetime import UTC, datetime
from typing import NamedTuple, Self

from lakery_cloud.errors import ConfigError, InvalidRecord, brief

TEMPORARY_FOLDER = ".tmp"
TRASH_FOLDER = ".trash"
STAMP_FORMAT = "%Y%m%dT%H%M%SZ"
MAX_KEY_BYTES = 1024
"""S3 API Reference, "PutObject"; Cloud Storage, "Object naming requirements"; Azure counts 1,024 characters."""

_LONGEST_NAME = 200  # a sha512 in hexadecimal has 128 characters, a temporary name 58
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_DOTS = re.compile(r"(?:^|[/\\])\.\.?(?:[/\\]|$)")  # some servers take a backslash for a slash
_HASH = re.compile(r"[0-9a-f]{16,}")
# A content key below plain folders. It breaks no rule of `check_untrusted_key`, which takes longer to find out.
_PLAIN = re.compile(r"(?:[\w-]+/)*[0-9a-f]{16,512}", re.ASCII)
_HEXADECIMAL = re.compile(r"[0-9a-f]*")
_TEMPORARY = re.compile(rf"(?:^|/){re.escape(TEMPORARY_FOLDER)}/(\d{{8}}T\d{{6}}Z)-[^/]+$")


class Address(NamedTuple):
    """One object in one bucket (on Azure a blob in a container)."""

    bucket: str
    key: str

    def with_key(self, key: str) -> Self:
        """The address of another object of the same bucket."""
        return self._replace(key=key)

    def __str__(self) -> str:
        return f"key {self.key!r} in bucket {self.bucket!r}" if self.key else f"bucket {self.bucket!r}"


class KeySpace:
    """The keys of one storage.

    Args:
        bucket: Name of the bucket.
        prefix: The part of each key before its name, without the separating slash; one slash at its end is dropped.
        temporary_bucket: Name of the bucket of temporary keys, if it is another one.

    Raises:
        ConfigError: The bucket is empty, or not every provider can store the prefix.
    """

    def __init__(self, bucket: str, prefix: str = "", *, temporary_bucket: str | None = None) -> None:
        if not bucket:
            raise ConfigError("the name of the bucket is empty")
        self.bucket = bucket
        self.temporary_bucket = temporary_bucket or bucket
        self.prefix = check_prefix(prefix)
        self.root = f"{self.prefix}/" if self.prefix else ""

    def content(self, content_hash: str) -> Address:
        """The address of content with this hash."""
        return Address(self.bucket, f"{self.root}{content_hash}")

    def content_root(self, hash_prefix: str = "") -> str:
        """The beginning of all content keys whose hash begins with these digits.

        Raises:
            ConfigError: They are not lower-case hexadecimal.
        """
        if _HEXADECIMAL.fullmatch(hash_prefix) is None:
            raise ConfigError(f"the beginning of a hash has lower-case hexadecimal digits, not {brief(hash_prefix)}")
        return f"{self.root}{hash_prefix}"

    def temporary(self) -> Address:
        """A new temporary address; its name tells its age."""
        return Address(self.temporary_bucket, self.temporary_key())

    def temporary_key(self) -> str:
        """A new temporary key, whatever its bucket."""
        stamp = datetime.now(UTC).strftime(STAMP_FORMAT)
        return f"{self.temporary_root}{stamp}-{uuid.uuid4()}"

    @property
    def buckets(self) -> tuple[str, ...]:
        """The buckets that may have temporary keys: the storage's own, and the one of temporary keys."""
        return tuple(dict.fromkeys((self.bucket, self.temporary_bucket)))

    @property
    def temporary_root(self) -> str:
        """The prefix of all temporary keys of this storage."""
        return f"{self.root}{TEMPORARY_FOLDER}/"

    @property
    def trash_root(self) -> str:
        """The prefix of all keys of content in quarantine."""
        return f"{self.root}{TRASH_FOLDER}/"

    def hash_of(self, key: str) -> str | None:
        """The content hash in a content key of this storage; None for any other key."""
        name = key.removeprefix(self.root)
        return name if key == f"{self.root}{name}" and is_hash(name) else None


def quarantined(address: Address) -> Address | None:
    """Where content of this content key is in quarantine; None for any other key."""
    root, slash, name = address.key.rpartition("/")
    if not is_hash(name) or is_quarantined(address):
        return None
    return address.with_key(f"{root}{slash}{TRASH_FOLDER}/{name}")


def is_quarantined(address: Address) -> bool:
    """Whether a key is one of content in quarantine, of any storage."""
    return f"/{address.key}".rpartition("/")[0].endswith(f"/{TRASH_FOLDER}")


def is_hash(text: str) -> bool:
    """Whether a text can be a content hash: lower-case hexadecimal of at least 64 bits."""
    return _HASH.fullmatch(text) is not None


def check_hash(content_hash: object) -> None:
    """Refuse what can't be a content hash.

    Raises:
        InvalidRecord: It is none.
    """
    if not isinstance(content_hash, str) or not is_hash(content_hash):
        raise InvalidRecord(f"a content hash is at least 16 lower-case hexadecimal digits, not {brief(content_hash)}")


def is_temporary(key: str) -> bool:
    """Whether a key is a temporary key of any storage, by the form of its name."""
    return _TEMPORARY.search(key) is not None


def begun_at(key: str) -> datetime | None:
    """The time at which a temporary key was made, in UTC; None for any other key."""
    found = _TEMPORARY.search(key)
    try:
        return datetime.strptime(found[1], STAMP_FORMAT).replace(tzinfo=UTC) if found else None
    except ValueError:  # no date
        return None


def check_untrusted_key(key: str) -> None:
    """Refuse a key in storage data that can't be a content key.

    Raises:
        InvalidRecord: It has a segment `.` or `..`, which a server may resolve to another bucket; a control character or a
            lone surrogate; more characters than any store allows; or it is a temporary key.
    """
    if len(key) <= MAX_KEY_BYTES and _PLAIN.fullmatch(key):
        return
    if len(key) > MAX_KEY_BYTES or _DOTS.search(key) or _CONTROL.search(key):
        raise InvalidRecord(
            f"the key {brief(key)} in storage data is invalid: a key has no segment '.' or '..', no control character, and "
            f"at most {MAX_KEY_BYTES} characters"
        )
    if is_temporary(key):
        raise InvalidRecord(f"the key {brief(key)} in storage data is a temporary key, which has no content")


def check_prefix(prefix: str) -> str:
    """Check a prefix, and drop one slash at its end.

    Raises:
        ConfigError: The prefix starts with a slash, has a segment `.` or `..` (HTTP libraries and servers resolve them,
            some between backslashes too), has a control character (XML can't contain it), or is too long.
    """
    prefix = prefix.removesuffix("/")
    if prefix.startswith("/"):
        raise ConfigError(f"the prefix {prefix!r} starts with a slash; remove it")
    if _DOTS.search(prefix):
        raise ConfigError(f"the prefix {prefix!r} has a segment '.' or '..', which keys can't have")
    if _CONTROL.search(prefix):
        raise ConfigError(f"the prefix {prefix!r} has a control character")
    if len(prefix.encode()) > MAX_KEY_BYTES - _LONGEST_NAME:
        raise ConfigError(
            f"the prefix has {len(prefix.encode())} bytes; at most {MAX_KEY_BYTES - _LONGEST_NAME} leave room for a hash"
        )
    return prefix
