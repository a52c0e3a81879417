"""The objects of a null server: size, headers, and the bytes of small ones.

It drops larger content, and returns the repeated block of `benchmarks.payload` instead.
"""

import itertools
from dataclasses import dataclass, field

from benchmarks.payload import KiB, MiB

KEPT = MiB + 4 * KiB
"""Largest body that is kept: 1 MiB, and the framing of an API."""

PRETENDED = "x-null-size"
"""A header of a request without a body, which makes an object of so many bytes."""

_numbers = itertools.count(1)


@dataclass(slots=True)
class Stored:
    """One object.

    Attributes:
        size: Bytes.
        content: Its bytes, or None if there are too many to keep.
        headers: Headers that a client gave and gets back.
        etag: Its version, with quotes.
        extra: What else a dialect knows about it.
    """

    size: int
    content: bytes | None
    headers: dict[str, str]
    etag: str = field(default_factory=lambda: f'"{next(_numbers):032x}"')
    extra: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Upload:
    """An unfinished upload in parts: number or name of a part -> its size and, for small ones, its bytes."""

    key: str
    headers: dict[str, str]
    parts: dict[str, tuple[int, bytes | None]] = field(default_factory=dict)

    def joined(self, names: list[str]) -> Stored:
        """Make the object of all parts, in the order of their names.

        Raises:
            KeyError: One of the parts was never sent.
        """
        parts = [self.parts[name] for name in names]
        size = sum(size for size, _ in parts)
        kept = [content for _, content in parts if content is not None]
        is_kept = size <= KEPT and len(kept) == len(parts)
        return Stored(size, b"".join(kept) if is_kept else None, self.headers)


@dataclass(slots=True)
class Bucket:
    """Objects and uploads by name."""

    objects: dict[str, Stored] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
