"""Mutated responses of every operation: the outcome is the right result or an error of ours, and the store stays right."""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st

from lakery_cloud import LakeryCloudError, MemoryStorage, StorageRegistry
from lakery_cloud.engine.keys import TEMPORARY_FOLDER
from lakery_cloud.maintenance import CopyOutcome, apply_lifecycle, copy, diagnose, sweep, verify
from lakery_cloud.providers.s3.settings import S3_LIMITS
from lakery_cloud.testing import content, digest_of, stream_of
from tests.attack.cases import cases, counted
from tests.conftest import rig_on
from tests.helpers import PATIENCE, hash_of, write
from tests.rigs.base import CloudRig
from tests.rigs.pairs import LOCAL_PAIRS, PROFILE_PAIRS
from tests.rigs.s3 import S3Rig
from tests.stores.mutations import MutatingProxy, Mutation, Reply, mutations

SMALL = b"some content"
PART = 10_000
CLEANING = frozenset(
    {
        *("delete_object", "delete_objects", "abort_multipart_upload"),  # S3
        *("list_objects_v2", "list_multipart_uploads", "list_parts"),
        *("objects.delete", "objects.list", "upload.cancel"),  # Cloud Storage
        *("delete_blob", "list_blobs", "get_block_list"),  # Azure
    }
)
"""Operations of clean-ups: a mutation of their responses may leave something temporary."""

LACKING = {
    "az": ("lifecycle", "stream_copied_in_parts"),  # Azure has no such request, and Azurite no such copies
    "gs": ("stream_copied_in_parts",),  # copies have no limit
}
"""Scheme -> scenarios that the store or its server does not support."""

cloud_rig = rig_on(
    *(pair for pair in (*PROFILE_PAIRS, *LOCAL_PAIRS) if pair.name in ("s3-aws", "gcs-strict", "azure-azurite"))
)


@dataclass
class Try:
    """One scenario on an empty prefix of the store.

    Attributes:
        rig: Makes the storage, and accesses the store without mutations.
        prefix: Prefix of the keys.
        fast_lane: Whether lakery-cloud sends the hot requests itself.
        saved: Key -> content of which the storage said that it is stored.
    """

    rig: CloudRig
    prefix: str
    fast_lane: bool = True
    saved: dict[str, bytes] = field(default_factory=dict)

    def storage(self, **options: Any) -> Any:
        settings = {"max_attempts": 2, "read_timeout": PATIENCE, "fast_lane": self.fast_lane, **options}
        return self.rig.storage(prefix=self.prefix, **settings)

    def key(self, data: bytes) -> str:
        return f"{self.prefix}/{hash_of(data)}"

    async def put(self, data: bytes = SMALL) -> None:
        await self.rig.put(self.key(data), data)

    async def keys(self) -> list[str]:
        return [key for key in await self.rig.keys() if key.startswith(f"{self.prefix}/")]

    async def check(self, *, is_clean: bool) -> None:
        """Check what is in the store."""
        keys = await self.keys()
        for key in keys:
            if f"/{TEMPORARY_FOLDER}/" not in key:
                found = await self.rig.get(key)
                assert found is not None
                assert hash_of(found.data) == key.rpartition("/")[2], f"{key} has other content"
        assert set(self.saved) <= set(keys), "saved content is missing"
        if is_clean:
            left = [key for key in (*keys, *await self.rig.uploads()) if f"{self.prefix}/{TEMPORARY_FOLDER}/" in key]
            assert not left


Scenario = Callable[[Try], Awaitable[None]]
SCENARIOS: dict[str, Scenario] = {}


def scenario(run: Scenario) -> Scenario:
    SCENARIOS[run.__name__] = run
    return run


@scenario
async def blob(tried: Try) -> None:
    async with tried.storage() as storage:
        await write(storage, SMALL)
        tried.saved[tried.key(SMALL)] = SMALL
        await write(storage, SMALL)


@scenario
async def blob_that_exists(tried: Try) -> None:
    await tried.put()
    async with tried.storage() as storage:
        await write(storage, SMALL)


@scenario
async def stream(tried: Try) -> None:
    data = content(tried.rig.part_size * 2 + 1)
    async with tried.storage() as storage:
        source = stream_of([data])
        await storage.write_data_stream(source, source.get_digest, {"tag": "a b"})
        tried.saved[tried.key(data)] = data


@scenario
async def stream_that_exists(tried: Try) -> None:
    data = content(tried.rig.part_size + 1)
    await tried.put(data)
    async with tried.storage() as storage:
        source = stream_of([data])
        await storage.write_data_stream(source, source.get_digest, {})


@scenario
async def stream_with_known_digest(tried: Try) -> None:
    data = content(tried.rig.part_size + 1)
    limits = replace(tried.storage().settings.limits, max_put_size=tried.rig.part_size)
    async with tried.storage(limits=limits) as storage:
        await storage.write_data(data, digest_of(data), {})
        tried.saved[tried.key(data)] = data


@scenario
async def stream_copied_in_parts(tried: Try) -> None:
    part = tried.rig.part_size
    data = content(part * 2 + 1)
    limits = replace(tried.storage().settings.limits, max_copy_size=part, copy_part_size=part)
    async with tried.storage(limits=limits) as storage:
        source = stream_of([data])
        await storage.write_data_stream(source, source.get_digest, {})
        tried.saved[tried.key(data)] = data


@scenario
async def reads(tried: Try) -> None:
    data = content(3000)
    await tried.put(data)
    async with tried.storage(range_size=1000, concurrent_ranges=2) as storage:
        storage_data = storage.storage_data_of(digest_of(data))
        assert await storage.read_data(storage_data) == data
        assert b"".join([chunk async for chunk in storage.read_data_stream(storage_data)]) == data


@scenario
async def descriptions(tried: Try) -> None:
    await tried.put()
    async with tried.storage() as storage:
        storage_data = storage.storage_data_of(digest_of(SMALL))
        await storage.exists(storage_data)
        await storage.stat(storage_data)
        await storage.exists(storage.storage_data_of(digest_of(b"not there")))


@scenario
async def listing(tried: Try) -> None:
    for number in range(3):
        await tried.put(b"%d" % number)
    async with tried.storage() as storage:
        [info async for info in storage.list()]
        [found async for found in verify(storage)]


@scenario
async def deletion(tried: Try) -> None:
    await tried.put()
    async with tried.storage() as storage:
        await storage.delete(storage.storage_data_of(digest_of(SMALL)))
        assert not await tried.keys()


@scenario
async def sweeping(tried: Try) -> None:
    await tried.put()
    for number in range(2):
        await tried.rig.put(f"{tried.prefix}/{TEMPORARY_FOLDER}/20200101T000000Z-{number:032x}", b"left")
    async with tried.storage() as storage:
        [swept async for swept in sweep(storage, older_than=timedelta(days=1))]


@scenario
async def copying(tried: Try) -> None:
    memory = MemoryStorage()
    await write(memory, SMALL)
    async with tried.storage() as storage, StorageRegistry([memory]) as registry:
        async for copied in copy(registry, storage):
            if copied.outcome is CopyOutcome.COPIED:
                tried.saved[tried.key(SMALL)] = SMALL
    async with StorageRegistry([tried.storage()]) as registry:
        memory = MemoryStorage()
        async for copied in copy(registry, memory):
            if copied.outcome is CopyOutcome.COPIED:
                assert await memory.read_data(memory.storage_data_of(digest_of(SMALL))) == SMALL


@scenario
async def copying_in_the_store(tried: Try) -> None:
    root = f"{tried.prefix}/from"
    await tried.rig.put(f"{root}/{hash_of(SMALL)}", SMALL)
    source = tried.rig.storage(prefix=root, max_attempts=2, read_timeout=PATIENCE, fast_lane=tried.fast_lane)
    async with tried.storage() as storage, StorageRegistry([source]) as registry:
        async for copied in copy(registry, storage, verify_after=True):
            if copied.outcome is CopyOutcome.COPIED:
                tried.saved[tried.key(SMALL)] = SMALL


@scenario
async def lifecycle(tried: Try) -> None:
    async with tried.storage() as storage:
        await apply_lifecycle(storage)


@scenario
async def diagnosis(tried: Try) -> None:
    async with tried.storage() as storage:
        [finding async for finding in diagnose(storage)]


@pytest.fixture
def small_parts(cloud_rig: CloudRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the double of S3 accept parts of a few bytes, so that streams are quick."""
    if isinstance(cloud_rig, S3Rig):
        monkeypatch.setattr(cloud_rig.server, "min_part_size", PART)
        monkeypatch.setattr(cloud_rig, "part_size", PART)
        limits = replace(S3_LIMITS, min_part_size=PART)
        monkeypatch.setattr(cloud_rig, "settings", {**cloud_rig.settings, "limits": limits})


@pytest.fixture
async def proxy(cloud_rig: CloudRig, short_pauses: None, small_parts: None) -> AsyncIterator[MutatingProxy]:
    async with MutatingProxy(cloud_rig.server_url) as made:
        cloud_rig.point_to(made.url)
        yield made


class Requests(dict[str, list[tuple[str, int]]]):
    """Scenario -> operation and number of each request when nothing is mutated."""

    def __repr__(self) -> str:
        return "the requests of all scenarios"


@pytest.fixture
async def requests(cloud_rig: CloudRig, proxy: MutatingProxy) -> Requests:
    """The requests of all scenarios."""
    found = Requests()
    for name, run in SCENARIOS.items():
        tried, seen = Try(cloud_rig, f"unmutated-{name.replace('_', '-')}"), {}
        proxy.exchanges.clear()
        if name in LACKING.get(cloud_rig.storage_class.url_scheme, ()):
            continue
        await run(tried)
        await tried.check(is_clean=True)
        for exchange in proxy.exchanges:
            seen[exchange.operation] = seen.get(exchange.operation, 0) + 1
            found.setdefault(name, []).append((exchange.operation, seen[exchange.operation]))
    return found


def may_leave(name: str, operation: str, status: int) -> bool:
    """Whether something temporary may be left after a mutated response."""
    if operation in CLEANING or operation == "upload.begin":  # without its URL, a session can only expire
        return True
    if name == "sweeping":  # it was there before, and the sweep ends with an error
        return True
    # A refusal says that nothing was made. Of the first block, Azure discards what it has after a week.
    return 400 <= status < 500 and (operation in ("create_multipart_upload", "put_block") or name == "diagnosis")


numbers = itertools.count()


@cases(
    25,
    derandomize=True,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=True,
)
@given(data=st.data())
async def test_mutated_response_has_the_right_result_or_an_error_of_ours(
    cloud_rig: CloudRig, proxy: MutatingProxy, requests: Requests, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(requests)))
    operation, nth = data.draw(st.sampled_from(requests[name]))
    mutation: Mutation = data.draw(mutations)
    tried = Try(cloud_rig, f"try-{next(numbers)}", fast_lane=data.draw(st.booleans()))
    proxy.mutate(operation, nth, mutation)
    async with asyncio.timeout(PATIENCE):
        with suppress(LakeryCloudError):
            await SCENARIOS[name](tried)
    await proxy.wait_until_idle()
    await tried.check(is_clean=not any(may_leave(name, *mutated) for mutated in proxy.mutated))
    counted["operations with changed responses"] += 1


def _twice(element: bytes) -> Mutation:
    pattern = re.compile(rb"<%b[ >].*?</%b>" % (element, element), re.DOTALL)

    def mutate(reply: Reply, _: Mapping[str, Reply]) -> Reply:
        return replace(reply, body=pattern.sub(lambda found: found[0] * 2, reply.body))

    return Mutation(f"{element.decode()} twice", mutate, 1)


async def test_element_that_comes_twice_has_the_right_result_or_an_error_of_ours(
    cloud_rig: CloudRig, proxy: MutatingProxy, requests: Requests
) -> None:
    tried_elements = set()
    for name, run in requests.items():
        for operation in dict(run):
            body = proxy.replies[operation].body
            is_document = body.lstrip().startswith(b"<")
            for element in sorted(set(re.findall(rb"<(\w+)[ >]", body))) if is_document else ():
                if (operation, element) in tried_elements:
                    continue
                tried_elements.add((operation, element))
                tried = Try(cloud_rig, f"try-{next(numbers)}")
                proxy.mutate(operation, 1, _twice(element))
                with suppress(LakeryCloudError):
                    await SCENARIOS[name](tried)
                await proxy.wait_until_idle()
                await tried.check(is_clean=not any(may_leave(name, *mutated) for mutated in proxy.mutated))
    assert tried_elements or cloud_rig.storage_class.url_scheme == "gs", "no response had XML"


async def test_diagnosis_deletes_also_what_it_can_not_look_up(strict_rig: CloudRig, short_pauses: None) -> None:
    async with MutatingProxy(strict_rig.server_url) as proxy:
        strict_rig.point_to(proxy.url)
        await diagnosis(Try(strict_rig, "unmutated"))
        lookups = [exchange.operation for exchange in proxy.exchanges].count("objects.get")
        for nth in range(lookups - 5, lookups + 1):
            tried = Try(strict_rig, f"try-{nth}")
            proxy.mutate("objects.get", nth, Mutation("201", lambda reply, _: replace(reply, status=201), 1))
            await diagnosis(tried)
            await tried.check(is_clean=True)
