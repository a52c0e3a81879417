"""Mixed load on one storage, and a ledger of what must be stored after it."""

import asyncio
import random
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from lakery_cloud import (
    Digest,
    IntegrityError,
    LakeryCloudError,
    NoStorageData,
    ObjectStorage,
)
from lakery_cloud.testing import (
    chunked,
    content,
    digest_of,
    stream_of,
)
from tests.helpers import write_stream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SHARED = 8
"""Contents that all workers write, often at the same time; they are never deleted."""
SMALLEST = 300
"""Bytes: a fault in the last 200 bytes of a request then damages content, not the provider's framing."""
LARGEST_BLOB = 64 * 1024
MOST_PARTS = 2.5
LONGEST_BEFORE_CANCELLING = 0.5
WRONG_HASH = "0" * 64


class Sample(NamedTuple):
    """Content that can be made again."""

    seed: int
    size: int

    @property
    def data(self) -> bytes:
        """Its bytes."""
        return content(self.size, seed=self.seed)


@dataclass
class Ledger:
    """The expected content of a storage, and counts.

    Attributes:
        stored: Content that was reported as written; it must exist.
        unsure: Content whose write or deletion was interrupted; it must be complete or missing.
        hashes: Content hash -> content.
        operations: Number of ended operations by name.
        errors: Number of errors of ours by class.
        cancelled: Number of cancelled operations.
        losses: Descriptions of losses, which must never occur.
    """

    stored: dict[Sample, Any] = field(default_factory=dict)
    unsure: set[Sample] = field(default_factory=set)
    hashes: dict[str, Sample] = field(default_factory=dict)
    operations: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    cancelled: int = 0
    losses: list[str] = field(default_factory=list)

    def forget(self) -> None:
        """Forget the content, but keep the counts."""
        self.stored.clear()
        self.unsure.clear()
        self.hashes.clear()


class Load:
    """Workers that write, read, find, list and delete until the time is over.

    The seed determines the operations of each worker; their results also depend on the other workers.

    Args:
        storage: The storage.
        ledger: Records the results.
        seed: Seed of the random numbers.
    """

    def __init__(self, storage: ObjectStorage[Any], ledger: Ledger, *, seed: int) -> None:
        self._storage = storage
        self._ledger = ledger
        self._seed = seed
        self._made = 0
        largest = int(storage.settings.part_size * MOST_PARTS)
        chance = random.Random(f"{seed}/shared")
        self._shared = [self._sample(chance, largest if number % 4 == 0 else LARGEST_BLOB) for number in range(SHARED)]
        self._largest = largest

    async def run(self, seconds: float, *, workers: int) -> None:
        """Work for so long, and finish the running operations."""
        end = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as tasks:
            for number in range(workers):
                tasks.create_task(self._work(random.Random(f"{self._seed}/{number}"), end))

    async def _work(self, chance: random.Random, end: float) -> None:
        own: list[Sample] = []
        actions: dict[Callable[[random.Random, list[Sample]], Awaitable[None]], int] = {
            self._write_blob: 20,
            self._write_stream: 8,
            self._write_shared: 6,
            self._write_cancelled: 6,
            self._write_broken: 3,
            self._write_lie: 3,
            self._read: 30,
            self._read_the_beginning: 3,
            self._find: 10,
            self._list: 2,
            self._delete: 6,
        }
        while asyncio.get_running_loop().time() < end:
            [action] = chance.choices(list(actions), list(actions.values()))
            try:
                await action(chance, own)
            except LakeryCloudError as error:
                self._ledger.errors[type(error).__name__] += 1
            except Exception as error:  # noqa: BLE001, each is a loss
                self._lose(f"{action.__name__} raised {error!r}")
            self._ledger.operations[action.__name__.removeprefix("_")] += 1

    async def _write_blob(self, chance: random.Random, own: list[Sample]) -> None:
        sample = self._sample(chance, LARGEST_BLOB)
        await self._write(sample, chance)
        own.append(sample)

    async def _write_stream(self, chance: random.Random, own: list[Sample]) -> None:
        sample = self._sample(chance, self._largest)
        await self._write(sample, chance)
        own.append(sample)

    async def _write_shared(self, chance: random.Random, _: list[Sample]) -> None:
        await self._write(chance.choice(self._shared), chance)

    async def _write_cancelled(self, chance: random.Random, own: list[Sample]) -> None:
        sample = self._sample(chance, self._largest)
        writing = asyncio.create_task(self._write(sample, chance))
        await asyncio.wait([writing], timeout=chance.uniform(0, LONGEST_BEFORE_CANCELLING))
        writing.cancel()
        try:
            await writing
        except asyncio.CancelledError:
            self._ledger.cancelled += 1
        else:
            own.append(sample)

    async def _write(self, sample: Sample, chance: random.Random) -> None:
        data = sample.data
        digest = digest_of(data)
        ledger = self._ledger
        ledger.hashes[digest["content_hash"]] = sample
        if sample not in ledger.stored:
            ledger.unsure.add(sample)
        if len(data) <= LARGEST_BLOB:
            storage_data = await self._storage.write_data(data, digest, {})
        else:
            stream = stream_of(chunked(data, [chance.randint(1, self._largest)]))
            storage_data = await write_stream(self._storage, stream, {})
        ledger.unsure.discard(sample)
        ledger.stored[sample] = storage_data

    async def _write_broken(self, chance: random.Random, _: list[Sample]) -> None:
        """Write a source that fails: its error is raised, and nothing of it is stored."""
        data = self._sample(chance, self._largest).data
        stream = stream_of(chunked(data, [64 * 1024]), failure=EOFError("the source is broken"))
        try:
            await write_stream(self._storage, stream, {})
        except EOFError:
            return
        self._lose("a stream whose source failed was reported as stored")

    async def _write_lie(self, chance: random.Random, _: list[Sample]) -> None:
        """Write content with the digest of other content: neither is stored."""
        data = self._sample(chance, self._largest).data
        lie = Digest(**{**digest_of(data), "content_hash": WRONG_HASH})
        try:
            if len(data) <= LARGEST_BLOB:
                await self._storage.write_data(data, lie, {})
            else:
                await self._storage.write_data_stream(stream_of([data]), lambda *, allow_incomplete=False: lie, {})
        except IntegrityError:
            return
        self._lose("content with a wrong digest was reported as stored")

    async def _read(self, chance: random.Random, own: list[Sample]) -> None:
        if (known := self._any_stored(chance, own)) is not None:
            sample, storage_data = known
            try:
                data = await self._storage.read_data(storage_data)
            except NoStorageData:
                self._lose(f"{sample} was stored and can't be found")
            else:
                if data != sample.data:
                    self._lose(f"{sample} was read wrongly, without an error")

    async def _read_the_beginning(self, chance: random.Random, own: list[Sample]) -> None:
        if (known := self._any_stored(chance, own)) is not None:
            async with aclosing(self._storage.read_data_stream(known[1])) as chunks:
                await anext(chunks, None)

    async def _find(self, chance: random.Random, own: list[Sample]) -> None:
        if (known := self._any_stored(chance, own)) is not None:
            sample, storage_data = known
            found = await self._storage.find(digest_of(sample.data))
            if found != storage_data:
                self._lose(f"{sample} was stored as {storage_data}, but is found as {found}")

    async def _list(self, chance: random.Random, own: list[Sample]) -> None:
        mine = [sample for sample in own if sample in self._ledger.stored]
        seen = Counter([info.address.key.rpartition("/")[2] async for info in self._storage.list()])
        for sample in chance.sample(mine, min(3, len(mine))):
            if (times := seen[digest_of(sample.data)["content_hash"]]) != 1:
                self._lose(f"{sample} was stored, and is listed {times} times")

    async def _delete(self, chance: random.Random, own: list[Sample]) -> None:
        mine = [sample for sample in own if sample in self._ledger.stored]
        if mine:
            sample = chance.choice(mine)
            own.remove(sample)
            storage_data = self._ledger.stored.pop(sample)
            self._ledger.unsure.add(sample)
            await self._storage.delete(storage_data)
            self._ledger.unsure.discard(sample)

    def _any_stored(self, chance: random.Random, own: list[Sample]) -> tuple[Sample, Any] | None:
        sample = chance.choice([*own[-20:], *self._shared])
        storage_data = self._ledger.stored.get(sample)
        return None if storage_data is None else (sample, storage_data)

    def _sample(self, chance: random.Random, largest: int) -> Sample:
        self._made += 1
        return Sample(self._made + self._seed * 1_000_000, chance.randint(SMALLEST, largest))

    def _lose(self, what: str) -> None:
        self._ledger.losses.append(what)
