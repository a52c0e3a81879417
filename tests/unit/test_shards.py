"""Plans and estimates of shards, in memory and at the number of requests that they send."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from lakery_cloud import ConfigError, MemoryStorage
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import ObjectInfo
from lakery_cloud.engine.transport import Transport
from lakery_cloud.maintenance.shards import EVERYTHING, Shard, estimate, listed, plan
from tests.helpers import hash_of, write


class ManyKeys:
    """A transport that lists as many objects as a test wants, sorted, without holding them."""

    lists_by_prefix = True

    def __init__(self, transport: Transport, number: int) -> None:
        self._transport = transport
        self._number = number
        self.listings: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def list(self, bucket: str, root: str) -> AsyncIterator[ObjectInfo]:
        self.listings.append(root)
        digits, whole = root.removeprefix("p/"), 16**16
        first = int(digits.ljust(16, "0"), 16)
        last = first + 16 ** (16 - len(digits))
        step = whole // self._number
        for position in range(-(-first // step) * step, last, step):
            yield ObjectInfo(Address(bucket, f"p/{position:016x}"), 1)


def many(number: int) -> tuple[MemoryStorage, list[ManyKeys]]:
    storage: MemoryStorage = MemoryStorage(prefix="p")
    made: list[ManyKeys] = []

    def wrap(transport: Transport) -> Any:
        made.append(ManyKeys(transport, number))
        return made[-1]

    storage.wrap_transports(wrap)
    return storage, made


@pytest.mark.parametrize("number", [4, 999, 1000, 100_000, 10**7])
async def test_an_estimate_is_close(number: int):
    storage, _ = many(number)
    assert await estimate(storage, EVERYTHING) == pytest.approx(number, rel=0.05)
    if number > 100:
        assert await estimate(storage, Shard("a")) == pytest.approx(number / 16, rel=0.1)


@pytest.mark.parametrize(
    ("number", "options", "shards", "requests"),
    [
        (10, {}, 256, 1),
        (10, {"shards": 1}, 1, 1),
        (10, {"shards": 2}, 16, 1),
        (40_000, {"shards": 1}, 1, 1),
        (60_000, {"shards": 1}, 16, 1 + 16),
        (10**7, {}, 256, 1 + 16 + 256),
        (10**7, {"max_objects": 1_000_000}, 256, 1 + 16),
    ],
)
async def test_a_plan_covers_all_hashes_once_with_few_requests(
    number: int, options: dict[str, int], shards: int, requests: int
):
    storage, made = many(number)
    planned = await plan(storage, **options)
    assert len(planned) == shards
    assert len(made[0].listings) == requests
    assert planned == sorted(planned)
    assert sum(16.0 ** -len(shard.hash_prefix) for shard in planned) == 1
    assert not any(
        one.hash_prefix.startswith(other.hash_prefix) for one in planned for other in planned if one is not other
    )


async def test_a_shard_that_is_larger_than_others_is_split_further():
    storage = MemoryStorage()
    blobs = [b"%d" % number for number in range(3000)]
    crowded = [data for data in blobs if hash_of(data).startswith("a")]
    for data in crowded:
        await write(storage, data)
    planned = await plan(storage, shards=1, max_objects=100)
    assert planned == sorted([*(shard for shard in EVERYTHING.split() if shard != Shard("a")), *Shard("a").split()])
    found = [content_hash for shard in planned async for content_hash, _ in listed(storage, shard)]
    assert found == sorted(map(hash_of, crowded))


async def test_wrong_arguments_are_refused():
    for options in ({"shards": 0}, {"max_objects": 0}):
        with pytest.raises(ConfigError, match="at least 1"):
            await plan(MemoryStorage(), **options)
    for prefix in ("x", "A", "../", "a/"):
        with pytest.raises(ConfigError, match="hexadecimal"):
            [info async for info in MemoryStorage().list(hash_prefix=prefix)]
