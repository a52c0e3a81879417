"""Routes: rules that choose a storage by the content's type, encoding, tags and size. No I/O happens here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from lakery_cloud.digest import check_content_type
from lakery_cloud.errors import ConfigError

__all__ = ["IDENTITY", "Content", "Explanation", "Route"]

IDENTITY = "identity"
"""The name for no content encoding in a route (RFC 9110, section 8.4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The properties of content that are known before it is written.

    Attributes:
        content_type: Media type; routes ignore its parameters (`; charset=utf-8`).
        content_encoding: Content coding, or None.
        tags: Tags of the content.
        size: Size in bytes; None if not known, as for most streams.

    Raises:
        InvalidRecord: The content type or encoding is malformed.
    """

    content_type: str
    content_encoding: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None

    def __post_init__(self) -> None:
        check_content_type(self.content_type, self.content_encoding)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A rule: content that meets all conditions is saved to the storage.

    Attributes:
        storage: Permanent name of the storage.
        content_type: Pattern for the media type, such as `image/*`; case is ignored.
        content_encoding: Pattern for the content coding, such as `gzip`; `identity` matches content without one.
        tag: Required tags with patterns for their values; `*` matches any value.
        min_size: Smallest size in bytes. Content of unknown size never matches a size.
        max_size: Largest size in bytes.

    Raises:
        ConfigError: There is no condition, or no size can meet both limits.
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
                f"the route to {self.storage!r} has no condition, so later routes would never apply; make that storage "
                "the default instead"
            )
        if any(size < 0 for size in sizes) or sizes != sorted(sizes):
            raise ConfigError(
                f"the route to {self.storage!r} can't match: no content has at least {self.min_size} and at most "
                f"{self.max_size} bytes"
            )

    def misses(self, content: Content) -> Iterator[str]:
        """Yield the conditions that the content does not meet, as phrases."""
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
            yield "the size is unknown"
        elif content.size is not None and self.min_size is not None and content.size < self.min_size:
            yield f"{content.size} bytes are fewer than {self.min_size}"
        elif content.size is not None and self.max_size is not None and content.size > self.max_size:
            yield f"{content.size} bytes are more than {self.max_size}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Where content would be saved, and why. It contains no secret.

    Attributes:
        rule: The rule that applies: `route 2`, `default` or `named by the caller`.
        passed_over: The earlier routes, each with the first condition that the content does not meet.
        storage_name: Permanent name of the storage.
        bucket: The storage's bucket, container or folder; None if it has none.
        key: Key of the content; None if its hash is not known.
        credential_source: Where the storage finds its credentials.
    """

    rule: str
    passed_over: tuple[str, ...]
    storage_name: str
    bucket: str | None
    key: str | None
    credential_source: str


def first_match(routes: Sequence[Route], content: Content) -> tuple[Route | None, tuple[str, ...]]:
    """Find the first route that the content matches, and say why it does not match the routes before."""
    passed_over: list[str] = []
    for number, route in enumerate(routes, start=1):
        missed = next(route.misses(content), None)
        if missed is None:
            return route, tuple(passed_over)
        passed_over.append(f"route {number}: {missed}")
    return None, tuple(passed_over)


def _matches(pattern: str, text: str) -> bool:
    return fnmatchcase(text.lower(), pattern.lower())
