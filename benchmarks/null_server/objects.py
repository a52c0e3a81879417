"""What a null server remembers of an object: its size and headers, and its bytes if they are few.

Larger content is taken for the repeated block of `benchmarks.payload`, and given back as that; what was sent is dropped.
"""

import itertools
from dataclasses import dataclass, field

from benchmarks.payload import KiB, MiB

KEPT = MiB + 4 * KiB
"""Bytes up to which a body is kept as it came: 1 MiB, and what an API may wrap around it."""

PRETENDED = "x-null-size"
"""A header of a request without a body: it stands for one of so many bytes."""

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
    """An upload in parts that is under way: number or name of a part -> its size and, if few, its bytes."""

    key: str
    headers: dict[str, str]
    parts: dict[str, tuple[int, bytes | None]] = field(default_factory=dict)

    def joined(self, names: list[str]) -> Stored:
        """The object that parts make, in the order of their names.

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
    """Objects and uploads by their names."""

    objects: dict[str, Stored] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
