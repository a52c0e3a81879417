"""An object's attributes: content type, encoding, tags, metadata; and the rule for tags."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from lakery_cloud.digest import check_content_type
from lakery_cloud.errors import InvalidTags
from lakery_cloud.storage import Digest, TagMap

MAX_TAGS = 10
"""S3 User Guide, "Categorizing your objects using tags"; Azure Storage, "Blob index tags"."""
MAX_TAG_KEY = 128
MAX_TAG_VALUE = 256
RESERVED_TAG_PREFIX = "aws:"
"""S3 User Guide: the prefix is reserved for AWS."""

# The characters that S3 and Azure both allow.
_TAG = re.compile(r"[A-Za-z0-9 +\-./:=_]*")

# Metadata names are permanent, since stored objects have them. Golden file: tests/golden/names.json.
METADATA_HASH = "content-hash"
METADATA_ALGORITHM = "content-hash-algorithm"
METADATA_SIZE = "content-size"


class ObjectAttributes(NamedTuple):
    """The attributes that a store keeps with an object."""

    content_type: str
    content_encoding: str | None
    tags: Mapping[str, str]
    metadata: Mapping[str, str]


def check_tags(tags: TagMap) -> dict[str, str]:
    """Check tags by the one rule of all providers, and copy them.

    At most 10 tags; keys of 1 to 128 and values of 0 to 256 characters: ASCII letters, digits, space and `+ - . / : = _`;
    no key starts with `aws:`.

    Raises:
        InvalidTags: The rule is broken; the message names the tag.
    """
    if not tags:
        return {}
    if len(tags) > MAX_TAGS:
        raise InvalidTags(f"{len(tags)} tags were given, but an object can have at most {MAX_TAGS}")
    for key, value in tags.items():
        _check_tag("key", key, key, minimum=1, maximum=MAX_TAG_KEY)
        _check_tag("value", key, value, minimum=0, maximum=MAX_TAG_VALUE)
        if key.lower().startswith(RESERVED_TAG_PREFIX):
            raise InvalidTags(f"the tag key {key!r} starts with {RESERVED_TAG_PREFIX!r}, which S3 reserves")
    return dict(tags)


def attributes_of_content(digest: Digest, tags: Mapping[str, str]) -> ObjectAttributes:
    """The attributes of a content key."""
    metadata = {
        METADATA_HASH: digest["content_hash"],
        METADATA_ALGORITHM: digest["content_hash_algorithm"],
        METADATA_SIZE: str(digest["content_size"]),
    }
    return ObjectAttributes(digest["content_type"], digest["content_encoding"], tags, metadata)


def attributes_of_temporary(digest: Digest) -> ObjectAttributes:
    """The attributes of a temporary key: the hash is not known yet, and the copy adds the tags."""
    check_content_type(digest["content_type"], digest["content_encoding"])
    return ObjectAttributes(digest["content_type"], digest["content_encoding"], {}, {})


def _check_tag(part: str, key: object, text: object, *, minimum: int, maximum: int) -> None:
    if not isinstance(text, str):
        raise InvalidTags(f"the {part} of tag {key!r} must be a string, not {type(text).__name__}")
    if not minimum <= len(text) <= maximum:
        raise InvalidTags(
            f"the {part} of tag {key!r:.80} has {len(text)} characters; {minimum} to {maximum} are allowed"
        )
    if not _TAG.fullmatch(text):
        raise InvalidTags(
            f"the {part} of tag {key!r} has a character outside of ASCII letters, digits, space and + - . / : = _"
        )
