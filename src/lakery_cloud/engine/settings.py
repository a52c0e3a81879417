"""The settings that every storage of the engine has, whatever its provider."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self, TypedDict

from lakery_cloud.engine.keys import is_bucket_name
from lakery_cloud.engine.model import Limits
from lakery_cloud.errors import ConfigError, brief

MiB = 1024 * 1024

_ARN = re.compile(r"arn:[\x21-\x2b\x2d-\x7e]+")  # no comma, which separates names in a URL


class EngineOptions(TypedDict, total=False):
    """Keyword arguments of every storage class; see `EngineSettings` for meanings, units and defaults."""

    part_size: int
    max_concurrent_parts: int
    max_concurrent_requests: int
    max_concurrent_reads: int
    max_buffered_bytes: int
    concurrent_ranges: int
    range_size: int
    verify: bool
    cleanup_timeout: float
    allowed_buckets: Collection[str] | None
    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How the engine works for one storage.

    Attributes:
        part_size: Bytes of a stream's first parts; a stream that fits into one part is sent in one request.
        max_concurrent_parts: Parts of one stream, or of one copy, that travel at a time.
        max_concurrent_requests: Requests of the storage under way at a time, reads apart.
        max_concurrent_reads: Bodies of the storage that are open at a time. A stream that is being read keeps one open
            until it ends or is closed.
        max_buffered_bytes: Bytes that all streams being written may hold at a time, and again for reads ahead.
        concurrent_ranges: Ranges of one object that are read at a time; 1 is one plain GET, which is fastest wherever
            one connection is not what limits the rate. With 0 a large object is read by a plain GET until that shows to be
            slow, and in ranges from there on.
        range_size: Bytes of such a range.
        verify: Whether reads compare content with its hash.
        cleanup_timeout: Seconds that the clean-up after a failure or a cancellation may take.
        allowed_buckets: Buckets (containers) besides the storage's own that storage data may point to. Storage data with
            any other one is refused before any request. Empty is the storage's own alone; None is any that the
            credentials may use, since storage data outlives a change of the bucket.
        limits: What the store can take, for stores that differ from their provider's documentation.
    """

    limits: Limits
    part_size: int = 8 * MiB
    max_concurrent_parts: int = 4
    max_concurrent_requests: int = 64
    max_concurrent_reads: int = 64
    max_buffered_bytes: int = 256 * MiB
    concurrent_ranges: int = 0
    range_size: int = 8 * MiB
    verify: bool = True
    cleanup_timeout: float = 30.0
    allowed_buckets: Collection[str] | None = None

    @classmethod
    def of(cls, options: EngineOptions, limits: Limits) -> Self:
        """Settings from a storage's keyword arguments.

        Raises:
            ConfigError: An option is unknown or out of range.
        """
        known = {field.name for field in fields(cls)}
        unknown = set(options) - known
        if unknown:
            raise ConfigError(f"unknown setting {min(unknown)!r}")
        merged: dict[str, Any] = {"limits": limits, **options}
        return cls(**merged)

    @property
    def connections(self) -> int:
        """Connections that requests and open reads need at most."""
        return self.max_concurrent_requests + self.max_concurrent_reads

    def share(self, connections: int) -> dict[str, int]:
        """How many requests and how many open reads fit a client that has so many connections.

        Neither may take all: open reads would keep writes from ever ending, whose end a reader may wait for.
        """
        requests = self.max_concurrent_requests
        reads = min(self.max_concurrent_reads, max(1, connections // 2, connections - requests))
        requests = min(requests, max(1, connections - reads))
        return {"max_concurrent_requests": requests, "max_concurrent_reads": reads}

    def __post_init__(self) -> None:
        for name in (
            "part_size",
            "max_concurrent_parts",
            "max_concurrent_requests",
            "max_concurrent_reads",
            "max_buffered_bytes",
            "concurrent_ranges",
            "range_size",
        ):
            value = getattr(self, name)
            least = 0 if name == "concurrent_ranges" else 1
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(f"{name} must be a whole number of at least {least}, not {value!r}")
        if not self.cleanup_timeout > 0:
            raise ConfigError(f"cleanup_timeout must be a number of seconds over 0, not {self.cleanup_timeout!r}")
        if self.allowed_buckets is not None:
            object.__setattr__(self, "allowed_buckets", _names(self.allowed_buckets))
        if self.part_size % self.limits.part_multiple:
            raise ConfigError(
                f"part_size must be a multiple of {self.limits.part_multiple} bytes, not {self.part_size}"
            )
        smallest, largest = self.limits.min_part_size, self.limits.max_part_size
        if not smallest <= self.part_size <= largest:
            raise ConfigError(f"part_size must be {smallest} to {largest} bytes, not {self.part_size}")


def _names(buckets: Collection[str]) -> frozenset[str]:
    if isinstance(buckets, str | bytes) or not isinstance(buckets, Collection):
        raise ConfigError(f"allowed_buckets must be a list of names, not {brief(buckets)}")
    for name in buckets:
        if not isinstance(name, str) or not (is_bucket_name(name) or _ARN.fullmatch(name)):
            raise ConfigError(f"allowed_buckets has {brief(name)}, which can't be the name of a bucket")
    return frozenset(buckets)


def read_flag(text: str) -> bool:
    """`true` or `false`.

    Raises:
        ValueError: The text is neither.
    """
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError("expected true or false")
    return text.lower() in ("true", "1")


def read_names(text: str) -> list[str]:
    """`a,b`; none if the text is empty."""
    return text.split(",") if text else []


ENGINE_URL_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "part_size": int,
    "max_concurrent_parts": int,
    "max_concurrent_requests": int,
    "max_concurrent_reads": int,
    "max_buffered_bytes": int,
    "concurrent_ranges": int,
    "range_size": int,
    "verify": read_flag,
    "cleanup_timeout": float,
    "allowed_buckets": read_names,
}


MAX_ATTEMPTS = 3


CONNECT_TIMEOUT = 2.0


READ_TIMEOUT = 60.0


class CloudOptions(EngineOptions, total=False):
    """Keyword arguments of every cloud's storage class; see `CloudStorage`."""

    max_attempts: int
    connect_timeout: float
    read_timeout: float
    fast_lane: bool
