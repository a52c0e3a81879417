"""Content as a binary file: the same bytes as in memory, in any order of reads, with few requests."""

import asyncio
import io
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakery_cloud import (
    ConfigError,
    ContentRecord,
    FileStorage,
    IntegrityError,
    MemoryStorage,
    NoStorageData,
    NotRegistered,
    ObjectStorage,
    StorageRegistry,
    sync,
)
from lakery_cloud.content_file import FIRST_RANGE, LARGEST_RANGE, SMALL, ContentFile
from lakery_cloud.testing import content, digest_of

LARGE = content(3 * SMALL + 17)


def opened(data: bytes, *, served: bytes | None = None) -> tuple[ContentFile, list[tuple[int, int]]]:
    """A file, and the list of its requests. Its bytes may differ from those of its record."""
    requests: list[tuple[int, int]] = []

    def read_range(start: int, stop: int) -> bytes:
        requests.append((start, stop))
        return (data if served is None else served)[start:stop]

    storage = MemoryStorage()
    digest = digest_of(data)
    return ContentFile(ContentRecord.of(storage, digest, storage.storage_data_of(digest)), read_range), requests


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(0, 3 * SMALL)),
        st.tuples(st.just("read"), st.sampled_from([-1, 1, FIRST_RANGE, FIRST_RANGE + 1])),
        st.tuples(st.just("seek"), st.integers(0, 4 * SMALL)),
        st.tuples(st.just("seek_from_end"), st.integers(-3 * SMALL, 10)),
        st.tuples(st.just("readline"), st.just(0)),
        st.tuples(st.just("peek"), st.just(1)),
    ),
    max_size=12,
)


def step(file: Any, name: str, argument: int) -> object:
    if name == "seek":
        return file.seek(argument)
    if name == "seek_from_end":
        return file.seek(argument, io.SEEK_END)
    if name == "peek":
        return file.peek(1)[:1]
    return file.readline() if name == "readline" else file.read(argument)


@given(size=st.sampled_from([0, 1, SMALL, SMALL + 1, len(LARGE)]), operations=OPERATIONS)
def test_file_is_read_like_one_in_memory(size: int, operations: list[tuple[str, int]]) -> None:
    data = LARGE[:size]
    file, requests = opened(data)
    other = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]
    for name, argument in operations:
        within = max(argument, -size) if name == "seek_from_end" else argument
        assert step(file, name, within) == step(other, name, within)
        assert file.tell() == other.tell()
    assert all(0 <= start < stop <= size for start, stop in requests)


def test_reads_in_order_make_larger_and_larger_requests_and_verify_the_end() -> None:
    data = content(40 * SMALL)
    file, requests = opened(data)
    pieces = []
    while piece := file.read(10_000):
        assert file.is_verified == (requests[-1][1] == len(data))
        pieces.append(piece)
    assert b"".join(pieces) == data
    assert file.is_verified
    assert [stop for _, stop in requests[:-1]] == [start for start, _ in requests[1:]], "no byte twice"
    sizes = [stop - start for start, stop in requests[:-1]]
    assert sizes == sorted(sizes)
    assert max(sizes) == LARGEST_RANGE


def test_part_of_a_large_file_is_one_small_request() -> None:
    file, requests = opened(LARGE)
    file.seek(-8, io.SEEK_END)
    assert file.read() == LARGE[-8:]
    file.seek(1000)
    assert file.read(10) == LARGE[1000:1010]
    assert not file.is_verified
    assert sum(stop - start for start, stop in requests) <= 3 * FIRST_RANGE


def test_small_content_is_one_request_in_any_order() -> None:
    data = content(SMALL)
    file, requests = opened(data)
    for position in (SMALL - 1, 0, SMALL // 2):
        file.seek(position)
        assert file.read(1) == data[position : position + 1]
    assert requests == [(0, SMALL)]
    assert file.is_verified


@pytest.mark.parametrize("size", [-1, 1000, LARGEST_RANGE])
def test_damage_is_found_at_the_end_before_the_last_bytes(size: int) -> None:
    damaged = bytes([LARGE[0] ^ 1]) + LARGE[1:]
    file, _ = opened(LARGE, served=damaged)
    if not 0 < size < len(LARGE):
        file.read(1)  # the storage itself verifies a read of the whole
        file.seek(0)
    got = 0
    with pytest.raises(IntegrityError, match="hash"):
        while piece := file.read(size):
            got += len(piece)
    assert got < len(LARGE)


def test_closed_file_refuses_reads_and_says_what_it_did_not_verify(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="lakery_cloud")
    file, _ = opened(LARGE)
    with file:
        file.read(5)
    file.close()
    for call in (file.read, file.tell, lambda: file.seek(0)):
        with pytest.raises(ValueError, match="closed"):
            call()
    assert [record.message for record in caplog.records] == [
        f"{file.name} was not read from start to end, so it was not verified"
    ]


# Through registries


@pytest.fixture(params=["memory", "file", "contract"])
def storage(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    if request.param == "contract":
        return _ByStreams()
    return MemoryStorage() if request.param == "memory" else FileStorage(tmp_path)


class _ByStreams(MemoryStorage):
    """A storage that only has streams, as one of another project may."""

    name = "tests.by_streams@v1"
    verifies_reads = False

    async def read_range(self, storage_data: Any, start: int, stop: int, /) -> bytes:
        return await super(ObjectStorage, self).read_range(storage_data, start, stop)


RANGES = [(0, 1), (5, 5), (7, 3), (1, SMALL), (SMALL, 2 * SMALL), (len(LARGE) - 1, 2**40), (2**40, 2**41), (0, 2**40)]


@pytest.mark.parametrize(("start", "stop"), RANGES)
async def test_ranges_are_slices(storage: Any, start: int, stop: int) -> None:
    async with StorageRegistry([storage]) as registry:
        record = await registry.save({"data": LARGE, "content_type": "a/b", "content_encoding": None})
        assert await registry.read_range(record, start, stop) == LARGE[start:stop]
        storage_data = storage.deserialize_storage_data(record.storage_data)
        assert await storage.read_range(storage_data, start, stop) == LARGE[start:stop]


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (0, -1), (-3, -1)])
async def test_range_with_a_negative_end_is_refused(storage: Any, start: int, stop: int) -> None:
    async with StorageRegistry([storage]) as registry:
        record = await registry.save({"data": b"data", "content_type": "a/b", "content_encoding": None})
        for read in (registry.read_range(record, start, stop), storage.read_range({}, start, stop)):
            with pytest.raises(ConfigError, match="0 or later"):
                await read


async def test_file_of_an_event_loop_is_read_in_worker_threads(storage: Any) -> None:
    async with StorageRegistry([storage]) as registry:
        record = await registry.save({"data": LARGE, "content_type": "a/b", "content_encoding": None})
        with registry.open_stream(record) as file:
            with pytest.raises(ConfigError, match="to_thread"):
                file.read(1)
            assert await asyncio.to_thread(file.read) == LARGE
            assert file.is_verified


async def test_file_whose_loop_has_ended_says_so() -> None:
    def run() -> ContentFile:
        async def main() -> ContentFile:
            registry = StorageRegistry([MemoryStorage()])
            record = await registry.save({"data": LARGE, "content_type": "a/b", "content_encoding": None})
            return registry.open_stream(record)

        return asyncio.run(main())

    with ThreadPoolExecutor() as pool:
        file = pool.submit(run).result()
    with pytest.raises(ConfigError, match="loop of the file is closed"):
        file.read(1)


def test_zip_file_is_read_in_place_without_asyncio(storage: Any) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("large", LARGE)
        archive.writestr("small", b"found")
    with sync.open(StorageRegistry([storage])) as registry:
        record = registry.save({"data": packed.getvalue(), "content_type": "application/zip", "content_encoding": None})
        with zipfile.ZipFile(registry.open_stream(record)) as archive:
            assert archive.read("small") == b"found"
        assert registry.read_range(record, 0, 2) == b"PK"
        registry.delete(record)
        with pytest.raises(NoStorageData), registry.open_stream(record) as file:
            file.read(1)


def test_file_of_an_unknown_storage_is_refused_before_it_is_read() -> None:
    with sync.open(StorageRegistry([MemoryStorage()])) as registry:
        record = registry.save({"data": b"data", "content_type": "a/b", "content_encoding": None})
    with sync.open(StorageRegistry()) as registry, pytest.raises(NotRegistered):
        registry.open_stream(record)
