"""Streams that a function writes to a file object, and files that are open already."""

import asyncio
import io
import tarfile
import threading
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from lakery_cloud import FileStorage, MemoryStorage, StorageRegistry, StorageUnavailable, sync
from lakery_cloud.testing import content, tap
from lakery_cloud.written import AHEAD, CHUNK_SIZE, LARGEST_CHUNK, chunks_written
from tests.helpers import until

np = pytest.importorskip("numpy", reason="as in an environment of the matrix")
pd = pytest.importorskip("pandas", reason="as in an environment of the matrix")

FRAME = pd.DataFrame({"number": range(1000)})


class StaysOpen(io.BytesIO):
    def close(self) -> None:
        pass


def tar(file: BinaryIO) -> None:
    with tarfile.open(fileobj=file, mode="w|") as archive:
        archive.addfile(tarfile.TarInfo("empty"))


def zipped(file: BinaryIO) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("name", b"data")


@pytest.mark.parametrize(
    "write",
    [
        lambda file: file.write(b"data"),
        lambda file: file.write(content(3 * LARGEST_CHUNK + 1)),
        lambda file: [file.write(b"line\n") for _ in range(1000)],
        lambda _: None,
        lambda file: file.close(),
        lambda file: np.savez(file, first=np.arange(10)),
        FRAME.to_parquet,
        FRAME.to_csv,
        tar,
        zipped,
    ],
)
def test_what_a_function_writes_is_saved(write: Any) -> None:
    expected = StaysOpen()
    write(expected)
    with sync.open(StorageRegistry([MemoryStorage()])) as registry:
        record = registry.save_written(write, content_type="a/b")
        found = registry.load(record)["data"]
    if write is zipped:  # without seeking, sizes follow the data
        with zipfile.ZipFile(io.BytesIO(found)) as archive:
            assert archive.read("name") == b"data"
    elif b"PK" not in found[:2]:
        assert found == expected.getvalue()
    else:
        assert np.load(io.BytesIO(found))["first"].sum() == 45


async def test_error_of_the_function_is_raised_and_nothing_is_stored(tmp_path: Path) -> None:
    def fail(file: BinaryIO) -> None:
        file.write(content(5 * CHUNK_SIZE))
        raise ZeroDivisionError("mid-way")

    async with StorageRegistry([FileStorage(tmp_path / "blobs")]) as registry:
        with pytest.raises(ZeroDivisionError, match="mid-way"):
            await registry.save_written(fail, content_type="a/b")
        assert [info async for info in registry.list()] == []
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


async def test_error_of_the_storage_reaches_the_next_write_of_the_function() -> None:
    storage = MemoryStorage(part_size=CHUNK_SIZE)
    seen: list[Exception] = []

    def write(file: BinaryIO) -> None:
        try:
            while True:
                file.write(bytes(CHUNK_SIZE))
        except StorageUnavailable as error:
            seen.append(error)
            raise

    async def fail() -> None:
        raise StorageUnavailable("no space left")

    tap(storage).before("upload_part", fail)
    async with StorageRegistry([storage]) as registry:
        with pytest.raises(StorageUnavailable, match="no space left"):
            await registry.save_written(write, content_type="a/b")
        assert len(seen) == 1
        assert not [thread for thread in threading.enumerate() if "save_written" in thread.name]


async def test_cancelled_save_ends_the_function_and_leaves_nothing() -> None:
    started, ended = threading.Event(), threading.Event()

    def write(file: BinaryIO) -> None:
        try:
            while True:
                file.write(bytes(CHUNK_SIZE))
                started.set()
        finally:
            ended.set()

    async with StorageRegistry([MemoryStorage(part_size=CHUNK_SIZE)]) as registry:
        saving = asyncio.create_task(registry.save_written(write, content_type="a/b"))
        await until(started.is_set)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
        assert ended.is_set()
        assert [info async for info in registry.list()] == []


async def test_function_waits_for_a_slow_reader() -> None:
    written = 0

    def write(file: BinaryIO) -> None:
        nonlocal written
        for _ in range(20):
            written += file.write(bytes(CHUNK_SIZE))

    stream = chunks_written(write)
    await anext(stream)
    await until(lambda: written >= AHEAD * CHUNK_SIZE)
    await asyncio.sleep(0.05)  # the other thread could go on
    assert written <= (AHEAD + 3) * CHUNK_SIZE
    assert 1 + len([chunk async for chunk in stream]) == 20


async def test_open_files_are_saved_from_their_position_and_loaded(tmp_path: Path) -> None:
    data = content(3 * CHUNK_SIZE + 5)
    (tmp_path / "source").write_bytes(b"head" + data)
    async with StorageRegistry([MemoryStorage()]) as registry:
        with (tmp_path / "source").open("rb") as source:
            source.seek(4)
            record = await registry.save_file(source, content_type="a/b")
            assert not source.closed
        assert record.content_type == "a/b"
        assert (await registry.save_file(io.BytesIO(data))).content_hash == record.content_hash
        assert (await registry.save_file(io.BytesIO(b""))).content_type == "application/octet-stream"
        with (tmp_path / "target").open("wb", buffering=0) as target:
            target.write(b"head")
            await registry.load_file(record, target)
            assert (tmp_path / "target").read_bytes() == b"head" + data
            assert not target.closed
