"""Routes: rules that choose the storage for content by what is known of it before it is written. Nothing here does I/O."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from lakery_cloud.digest import check_content_type
from lakery_cloud.errors import ConfigError

__all__ = ["IDENTITY", "Content", "Explanation", "Route"]

IDENTITY = "identity"
"""What a route calls the absence of a content encoding (RFC 9110, section 8.4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is known of content before it is written.

    Attributes:
        content_type: Media type; its parameters (`; charset=utf-8`) don't count.
        content_encoding: Content coding, or None.
        tags: Its tags.
        size: Size in bytes; None where a stream doesn't say.

    Raises:
        InvalidRecord: Content type or encoding are malformed.
    """

    content_type: str
    content_encoding: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None

    def __post_init__(self) -> None:
        check_content_type(self.content_type, self.content_encoding)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Content that meets all conditions is saved to a storage. Conditions that are not given are met.

    Attributes:
        storage: Permanent name of the storage.
        content_type: Pattern of the media type, such as `image/*`; upper and lower case are the same.
        content_encoding: Pattern of the content coding, such as `gzip`; `identity` is none.
        tag: Tags that must be there, with patterns of their values; `*` is any value.
        min_size: Bytes that the content must have at least. Content of unknown size never meets a size.
        max_size: Bytes that it may have at most.

    Raises:
        ConfigError: There is no condition, or no size can meet both bounds.
    """

    storage: str
    content_type: str | None = None
    content_encoding: str | None = None
    tag: Mapping[str, str] = field(default_factory=dict)
    min_size: int | None = None
    max_size: int | None = None

    def __post_init__(self) -> None:
        patterns = (self.content_type, self.content_encoding)
        sizes = [size for size in (self.min_size, self.max_size) if size is not None]
        if not (any(patterns) or self.tag or sizes):
            raise ConfigError(
                f"the route to {self.storage!r} has no condition, so that none after it would ever count; make that "
                "storage the default instead"
            )
        if any(size < 0 for size in sizes) or sizes != sorted(sizes):
            raise ConfigError(f"no content has at least {self.min_size} and at most {self.max_size} bytes")

    def misses(self, content: Content) -> Iterator[str]:
        """The conditions that the content does not meet, each as a phrase."""
        media_type = content.content_type.partition(";")[0].strip()
        if self.content_type and not _matches(self.content_type, media_type):
            yield f"content type {media_type!r} is not {self.content_type!r}"
        encoding = content.content_encoding or IDENTITY
        if self.content_encoding and not _matches(self.content_encoding, encoding):
            yield f"content encoding {encoding!r} is not {self.content_encoding!r}"
        for key, pattern in self.tag.items():
            value = content.tags.get(key)
            if value is None:
                yield f"there is no tag {key!r}"
            elif not fnmatchcase(value, pattern):
                yield f"tag {key!r} is {value!r}, not {pattern!r}"
        if content.size is None and (self.min_size is not None or self.max_size is not None):
            yield "the size is not known"
        elif content.size is not None and self.min_size is not None and content.size < self.min_size:
            yield f"{content.size} bytes are fewer than {self.min_size}"
        elif content.size is not None and self.max_size is not None and content.size > self.max_size:
            yield f"{content.size} bytes are more than {self.max_size}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Where content is saved, and why. It holds no secret.

    Attributes:
        rule: What decided: `route 2`, `default` or `named by the caller`.
        passed_over: The routes before it, each with the first condition that the content does not meet.
        storage_name: Permanent name of the storage.
        bucket: Its bucket, container or folder; None where the storage has none.
        key: The key of the content; None where its hash is not known.
        credential_source: Where its credentials come from.
    """

    rule: str
    passed_over: tuple[str, ...]
    storage_name: str
    bucket: str | None
    key: str | None
    credential_source: str


def _matches(pattern: str, text: str) -> bool:
    return fnmatchcase(text.lower(), pattern.lower())
