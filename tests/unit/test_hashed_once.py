"""Bytes are hashed once where this library computes their digest, and once more where the digest comes from outside."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lakery_cloud import IntegrityError, MemoryStorage, SerializedData, StorageRegistry, digest_data
from lakery_cloud.testing import content, digest_of

DATA = content(100_000)
BLOB = SerializedData(data=DATA, content_type="text/plain", content_encoding=None)


@contextmanager
def counted_hashes() -> Iterator[list[str]]:
    """The calls of `update` on hashlib's objects, which Python's profiler sees."""
    calls: list[str] = []

    def note(frame: Any, event: str, function: Any) -> None:
        if event == "c_call" and function.__name__ == "update" and hasattr(function.__self__, "hexdigest"):
            calls.append(function.__self__.name)

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)


async def test_registry_hashes_a_blob_once() -> None:
    async with StorageRegistry([MemoryStorage()]) as registry:
        with counted_hashes() as calls:
            await registry.save(BLOB)
    assert calls == ["sha256"]


async def test_digest_from_outside_is_verified() -> None:
    async with MemoryStorage() as storage:
        digest = digest_of(DATA)
        with counted_hashes() as calls:
            await storage.write_data(DATA, digest, {})
    assert calls == ["sha256"]


async def test_digest_of_other_bytes_is_not_trusted() -> None:
    from lakery_cloud.digest import computed_digest

    async with MemoryStorage() as storage:
        computed = await computed_digest(BLOB)
        with pytest.raises(IntegrityError):
            await storage.write_data(b"x" * len(DATA), computed, {})
        copied = bytes(bytearray(DATA))
        with counted_hashes() as calls:
            await storage.write_data(copied, computed, {})
        assert calls == ["sha256"], "equal bytes in another object are hashed"


async def test_public_digest_keeps_no_bytes() -> None:
    digest = await digest_data(BLOB)
    assert type(digest) is dict
