"""The rules of garbage collection, one by one, on a store in memory whose clock the test moves."""

from collections.abc import Callable  # noqa: TC003
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lakery_cloud import ConfigError, InvalidRecord, MemoryStorage
from lakery_cloud.engine.transport import Transport
from lakery_cloud.errors import AccessDenied
from lakery_cloud.maintenance import collect as module
from lakery_cloud.maintenance.collect import CollectJob, Fate, restore_quarantined
from lakery_cloud.maintenance.live import LiveSet, live_set
from lakery_cloud.maintenance.shards import EVERYTHING, Shard
from tests.helpers import hash_of, write

GRACE = timedelta(hours=8)
LAG = timedelta(minutes=30)
SECOND = timedelta(seconds=1)
HASH = hash_of(b"data")
TRASH = f".trash/{HASH}"


class Clock:
    """The store's clock."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)


class ClockedTransport:
    """A transport whose store has the test's clock. `before` is called with the name and arguments of each request."""

    def __init__(self, transport: Transport, storage: MemoryStorage, clock: Clock) -> None:
        self._transport, self._storage, self._clock = transport, storage, clock
        self.before: Callable[..., None] = lambda *_: None

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **options: Any) -> Any:
            self.before(name, *args)
            objects = self._storage.contents.objects
            known = dict(objects)
            try:
                return await getattr(self._transport, name)(*args, **options)
            finally:
                for key, found in list(objects.items()):
                    if known.get(key) is not found:
                        objects[key] = replace(found, modified=self._clock.now)

        return call if name in ("put", "copy_as_is", "delete_if", "head") else getattr(self._transport, name)

    async def server_time(self, bucket: str) -> datetime:
        return self._clock.now


class Rig:
    """A storage in memory, its clock and its transport."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        monkeypatch.setattr(module, "monotonic", lambda: self.clock.now.timestamp())  # noqa: PLW0108, the time changes
        self.storage = MemoryStorage()
        self.transports: list[ClockedTransport] = []
        self.storage.wrap_transports(self._wrap)

    def _wrap(self, transport: Transport) -> Any:
        self.transports.append(ClockedTransport(transport, self.storage, self.clock))
        return self.transports[-1]

    @property
    def keys(self) -> set[str]:
        return set(self.storage.contents.objects)

    def pass_time(self, time: timedelta) -> None:
        self.clock.now += time

    async def collect(self, *live: str, began: datetime | None = None, **options: Any) -> dict[str, str]:
        with LiveSet() as needed:
            await needed.add_all(live)
            job = CollectJob(
                self.storage,
                live=needed,
                began=began or self.clock.now,
                **{"grace": GRACE, "dry_run": False, **options},
            )
            result = await job.run(EVERYTHING, job.payload(EVERYTHING))
        return {finding["content_hash"]: finding["result"] for finding in result.findings}


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


async def test_content_is_garbage_after_the_grace_period_and_not_before(rig: Rig):
    await write(rig.storage)
    rig.pass_time(GRACE)
    assert await rig.collect() == {}
    rig.pass_time(SECOND)
    assert await rig.collect(HASH) == {}
    assert await rig.collect() == {HASH: "quarantined"}
    assert rig.keys == {TRASH}


async def test_age_counts_to_the_moment_at_which_the_records_were_read(rig: Rig):
    await write(rig.storage)
    began = rig.clock.now + GRACE
    rig.pass_time(10 * GRACE)
    assert await rig.collect(began=began) == {}
    await rig.collect()
    began = rig.clock.now + GRACE
    rig.pass_time(10 * GRACE)
    assert await rig.collect(began=began) == {}
    assert rig.keys == {TRASH}


async def test_quarantine_lasts_for_the_grace_period_and_two_lags(rig: Rig):
    await write(rig.storage)
    rig.pass_time(2 * GRACE)
    await rig.collect()
    rig.pass_time(GRACE + 2 * LAG)
    assert await rig.collect() == {}
    rig.pass_time(SECOND)
    assert await rig.collect() == {HASH: "deleted"}
    assert rig.keys == set()


async def test_a_collector_that_was_paused_after_its_copy_deletes_nothing(rig: Rig):
    await write(rig.storage)
    rig.pass_time(2 * GRACE)

    def pause(name: str, *_: object) -> None:
        if name == "copy_as_is":
            rig.pass_time(LAG + SECOND)

    rig.transports[0].before = pause
    assert await rig.collect() == {}
    assert rig.keys == {HASH, TRASH}


async def test_a_listing_that_is_old_is_looked_at_again(rig: Rig):
    await write(rig.storage, b"other")
    await write(rig.storage)
    rig.pass_time(2 * GRACE)
    first, second = sorted((HASH, hash_of(b"other")))
    objects = rig.storage.contents.objects
    asked: list[str] = []

    def note(name: str, *_: object) -> None:
        asked.append(name)
        if asked == ["copy_as_is"]:  # of the first object: the second one is written anew long after the listing
            rig.pass_time(LAG / 2 + SECOND)
            objects[second] = replace(objects[second], modified=rig.clock.now)

    rig.transports[0].before = note
    assert await rig.collect(at_a_time=1) == {first: "quarantined"}
    assert asked == ["copy_as_is", "delete_if", "head"]
    assert second in rig.keys


async def test_a_copy_that_another_collector_replaced_stays(rig: Rig):
    await write(rig.storage)
    rig.pass_time(2 * GRACE)
    await rig.collect()
    rig.pass_time(2 * GRACE)
    objects = rig.storage.contents.objects

    def replace_copy(name: str, *arguments: Any) -> None:
        if name == "head" and arguments[0].key == HASH:
            objects[TRASH] = replace(objects[TRASH], modified=rig.clock.now)  # with the same version, as on S3

    rig.transports[0].before = replace_copy
    assert await rig.collect() == {}
    assert rig.keys == {TRASH}


async def test_needed_content_comes_back_and_its_copy_goes_later(rig: Rig):
    await write(rig.storage)
    rig.pass_time(2 * GRACE)
    await rig.collect()
    rig.pass_time(10 * GRACE)
    assert await rig.collect(HASH) == {HASH: "restored"}
    assert rig.keys == {HASH, TRASH}
    assert await rig.collect(HASH) == {}, "a deletion of another collector may still arrive"
    rig.pass_time(2 * LAG + SECOND)
    assert await rig.collect(HASH) == {HASH: "tidied"}
    assert rig.keys == {HASH}


async def test_a_copy_stays_while_its_content_may_be_quarantined_again(rig: Rig):
    await write(rig.storage)
    rig.pass_time(2 * GRACE)
    await rig.collect()
    await write(rig.storage)
    rig.pass_time(GRACE - 2 * LAG)
    assert await rig.collect(HASH) == {}
    assert rig.keys == {HASH, TRASH}
    rig.pass_time(10 * GRACE)
    assert await rig.collect() == {HASH: "quarantined"}
    assert rig.keys == {TRASH}
    assert rig.storage.contents.objects[TRASH].modified == rig.clock.now, "its time is that of this quarantine"


async def test_without_quarantine_content_is_looked_at_again_before_each_deletion(rig: Rig):
    await write(rig.storage)
    rig.pass_time(2 * GRACE)
    objects = rig.storage.contents.objects

    def write_anew(name: str, *_: object) -> None:
        if name == "head":
            objects[HASH] = replace(objects[HASH], modified=rig.clock.now)

    rig.transports[0].before = write_anew
    assert await rig.collect(quarantine=False) == {}
    rig.transports[0].before = lambda *_: None
    rig.pass_time(2 * GRACE)
    assert await rig.collect(quarantine=False) == {HASH: "deleted"}
    assert rig.keys == set()


async def test_what_can_not_be_moved_is_named_and_the_rest_goes_on(rig: Rig):
    for data in (b"data", b"other"):
        await write(rig.storage, data)
    rig.pass_time(2 * GRACE)

    def refuse(name: str, *arguments: Any) -> None:
        if name == "delete_if" and arguments[0].address.key == HASH:
            raise AccessDenied("a retention policy keeps it")

    rig.transports[0].before = refuse
    assert await rig.collect() == {HASH: "failed", hash_of(b"other"): "quarantined"}
    assert rig.keys == {HASH, TRASH, f".trash/{hash_of(b'other')}"}


async def test_other_files_of_the_folder_are_left_alone(rig: Rig):
    await write(rig.storage)
    rig.storage.contents.objects[".trash/notes"] = rig.storage.contents.objects[HASH]
    rig.pass_time(100 * GRACE)
    await rig.collect()
    rig.pass_time(100 * GRACE)
    assert await rig.collect() == {HASH: "deleted"}
    assert rig.keys == {".trash/notes"}


async def test_wrong_arguments_are_refused(rig: Rig):
    with LiveSet() as live:
        with pytest.raises(ConfigError, match="at least an hour"):
            CollectJob(rig.storage, live=live, began=rig.clock.now, grace=timedelta(minutes=59))
        for wrong in ("x", "AB" * 16, "", 7):
            with pytest.raises(InvalidRecord):
                live.add(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="everything would be garbage"):
        await live_set([[]])
    (await live_set([[]], allow_empty=True)).__exit__()
    with pytest.raises(InvalidRecord, match="not a content hash"):
        [each async for each in restore_quarantined(rig.storage, ["notes"])]
    assert Fate("tidied") is Fate.TIDIED


def test_threads_that_ask_at_once_get_all_hashes():
    hashes = {hash_of(b"%d" % number) for number in range(5000)}
    shards = EVERYTHING.split()
    for _ in range(5):
        with LiveSet() as live, ThreadPoolExecutor(16) as threads:
            for content_hash in hashes:
                live.add(content_hash)
            found = list(threads.map(live.hashes_of, shards))
        assert set().union(*found) == hashes


async def test_a_live_set_gives_each_shard_its_hashes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lakery_cloud.maintenance.spool.BATCH", 7)
    hashes = {hash_of(b"%d" % number) for number in range(500)}
    with await live_set([sorted(hashes)[:300], hashes]) as live:
        assert live.hashes_of(EVERYTHING) == hashes
        for prefix in ("a", "a1", "a1f"):
            assert live.hashes_of(Shard(prefix)) == {each for each in hashes if each.startswith(prefix)}
