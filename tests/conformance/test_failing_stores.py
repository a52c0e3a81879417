"""Tests of the conformance suite on stores that fail: each passes, or ends with an error of ours.

A write that returns has stored its content. What a write leaves is its whole content, or nothing; nothing temporary is left,
and nothing that was there before is lost.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from functools import wraps
from typing import Any

import pytest

from lakery_cloud import LakeryCloudError
from lakery_cloud.testing import StorageConformance
from tests.rigs.base import CloudRig
from tests.rigs.failing import FAILING_PAIRS, SAVE_NOTHING, TESTS_OF_FAILING_STORES
from tests.rigs.pairs import Pair, params

Test = Callable[..., Coroutine[Any, Any, None]]


def may_fail(test: Test) -> Test:
    """The test, which may also end with an error of ours."""

    @wraps(test)
    async def run(*args: Any, **options: Any) -> None:
        with suppress(LakeryCloudError):
            await test(*args, **options)

    return run


class Store:
    """What is in a rig's store without its storages: it compares this to what is there."""

    def __init__(self, rig: CloudRig) -> None:
        self._rig = rig
        self._put: dict[str, bytes] = {}
        self._original = rig.storage, rig.put, rig.delete
        rig.storage, rig.put, rig.delete = self._storage, self.put, self.delete  # type: ignore[method-assign]

    async def put(self, key: str, data: bytes) -> None:
        self._put[key] = data
        await self._original[1](key, data)

    async def delete(self, key: str) -> None:
        self._put.pop(key, None)
        await self._original[2](key)

    def _storage(self, **options: Any) -> Any:
        storage = self._original[0](**options)
        storage.write_data = self._checked(storage, storage.write_data)
        storage.write_data_stream = self._checked(storage, storage.write_data_stream)
        return storage

    def _checked(self, storage: Any, write: Callable[..., Coroutine[Any, Any, Any]]) -> Any:
        async def write_and_look(*args: Any) -> Any:
            written = await write(*args)
            key = self._rig.own_key(written[storage.place_names[1]])
            found = await self._rig.get(key)
            assert found is not None, "it was reported as saved, and is not there"
            assert _hash_of(found.data) == _hash_in(key)
            return written

        return write_and_look

    async def check(self, *, saves_nothing: bool) -> None:
        """Check that it has what was put there, and apart from that content alone; or nothing, if nothing is saved."""
        keys = await self._rig.keys()
        for key, data in self._put.items():
            found = await self._rig.get(key)
            assert found is not None, f"{key} is lost"
            assert found.data == data
        written = set(keys) - self._put.keys()
        for key in written:
            found = await self._rig.get(key)
            assert found is not None
            assert ".tmp/" not in key, "a temporary key is left"
            assert _hash_of(found.data) == _hash_in(key)
        assert not await self._rig.uploads()
        assert not (saves_nothing and written)


def _hash_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _hash_in(key: str) -> str:
    return key.rpartition("/")[2]


@pytest.fixture(params=params(FAILING_PAIRS))
async def rig(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CloudRig]:
    pair: Pair = request.param
    async with pair.open(request, monkeypatch) as rig:
        assert isinstance(rig, CloudRig)
        store = Store(rig)
        yield rig
        await store.check(saves_nothing=pair.name in SAVE_NOTHING)


TestFailingStores = pytest.mark.usefixtures("short_pauses")(
    type(
        "TestFailingStores",
        (),
        {name: may_fail(getattr(StorageConformance, name)) for name in sorted(TESTS_OF_FAILING_STORES)},
    )
)
