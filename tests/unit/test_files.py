"""Saving and loading files through a registry, and its information about stored content."""

import os
import stat
import threading

import pytest

from lakery_cloud import (
    ConfigError,
    FileStorage,
    IntegrityError,
    MemoryStorage,
    NoStorageData,
    NotRegistered,
    Storage,
    StorageRegistry,
)
from lakery_cloud.files import CHUNK_SIZE, guess_content_type
from lakery_cloud.testing import content, digest_of, tap

DATA = content(2 * CHUNK_SIZE + 7)
Archive = MemoryStorage.named("tests.files.archive@v1")


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "table.parquet"
    path.write_bytes(DATA)
    return path


def memory(**options):
    return MemoryStorage(part_size=CHUNK_SIZE, **options)


class Shelf(Storage):
    """A minimal storage of a third party."""

    name = "tests.files.shelf@v1"

    def __init__(self):
        self.kept = {}

    async def write_data(self, data, digest, tags, /):
        self.kept[digest["content_hash"]] = data
        return digest["content_hash"]

    async def read_data(self, storage_data, /):
        if storage_data not in self.kept:
            raise NoStorageData(storage_data)
        return self.kept[storage_data]

    async def write_data_stream(self, stream, get_digest, tags, /):
        return await self.write_data(b"".join([chunk async for chunk in stream]), get_digest(), tags)

    async def read_data_stream(self, storage_data, /):
        yield await self.read_data(storage_data)


# Saving.


async def test_file_has_the_content_type_of_its_name(rig, source, tmp_path):
    async with StorageRegistry([rig.storage()]) as registry:
        record = await registry.save_file(source, tags={"a": "b"})
        assert (record.content_type, record.content_size) == ("application/vnd.apache.parquet", len(DATA))
        target = tmp_path / "copy"
        await registry.load_file(record, str(target))
        assert target.read_bytes() == DATA
        assert await registry.exists(record)
        assert [info.size async for info in registry.list()] == [len(DATA)]
        await registry.delete(record)
        await registry.delete(record)
        assert not await registry.exists(record)


async def test_content_type_of_the_caller_wins(source):
    registry = StorageRegistry([memory(), Archive()])
    record = await registry.save_file(
        source, content_type="x/y", content_encoding="gzip", storage="tests.files.archive@v1", algorithm="sha512"
    )
    assert (record.content_type, record.content_encoding) == ("x/y", "gzip")
    assert (record.storage_name, record.content_hash_algorithm) == ("tests.files.archive@v1", "sha512")


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        *(("a.csv", "text/csv"), ("a.tar.gz", "application/gzip"), ("a.yml", "application/yaml")),
        *(("a", "application/octet-stream"), ("a.unheard", "application/octet-stream")),
    ],
)
def test_types_are_guessed_alike_on_every_machine(tmp_path, name, content_type):
    assert guess_content_type(tmp_path / name) == content_type


@pytest.mark.parametrize("change", ["longer", "as long"])
async def test_a_file_that_changes_while_it_is_read_is_not_saved(source, change):
    storage = memory()

    async def write():
        with source.open("ab" if change == "longer" else "r+b") as file:
            file.write(b"more")
        os.utime(source, ns=(1, 1))  # another time for certain, however coarse the clock is

    tap(storage).before("begin_upload", write)
    registry = StorageRegistry([storage])
    with pytest.raises(IntegrityError, match="changed while it was read"):
        await registry.save_file(source)
    assert [info async for info in registry.list()] == []


async def test_file_with_another_digest_is_not_saved(source):
    registry = StorageRegistry([memory()])
    with pytest.raises(IntegrityError):
        await registry.save_file(source, digest=digest_of(DATA[1:]))
    assert [info async for info in registry.list()] == []


async def test_a_pipe_is_saved_too(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writing = threading.Thread(target=pipe.write_bytes, args=(DATA,))
    writing.start()
    registry = StorageRegistry([memory()])
    record = await registry.save_file(pipe)
    writing.join()
    assert (await registry.load(record))["data"] == DATA


async def test_path_that_is_no_file_is_refused_before_any_request(tmp_path):
    registry = StorageRegistry([FileStorage(tmp_path / "no storage here", create=False)])
    with pytest.raises(FileNotFoundError):
        await registry.save_file(tmp_path / "missing")
    with pytest.raises(IsADirectoryError, match="name a file"):
        await registry.save_file(tmp_path)


# Loading.


async def test_a_file_has_the_mode_that_a_new_one_has(source, tmp_path):
    registry = StorageRegistry([memory()])
    await registry.load_file(await registry.save_file(source), tmp_path / "copy")
    (tmp_path / "usual").touch()
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


async def test_wrong_content_keeps_the_existing_file_and_leaves_no_other(source, tmp_path):
    storage = FileStorage(tmp_path / "blobs")
    registry = StorageRegistry([storage])
    record = await registry.save_file(source)
    blob = tmp_path / "blobs" / record.content_hash
    blob.chmod(0o600)
    blob.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    target = tmp_path / "folder" / "target"
    target.parent.mkdir()
    target.write_bytes(b"before")
    with pytest.raises(IntegrityError):
        await registry.load_file(record, target)
    assert target.read_bytes() == b"before"
    assert list(target.parent.iterdir()) == [target]


async def test_a_target_that_can_not_be_is_refused_before_anything_is_read(source, tmp_path):
    registry = StorageRegistry([memory()])
    record = await registry.save_file(source)
    await registry.delete(record)
    with pytest.raises(IsADirectoryError, match="name a file"):
        await registry.load_file(record, tmp_path)
    with pytest.raises(FileNotFoundError, match="folder of the target"):
        await registry.load_file(record, tmp_path / "missing" / "file")
    with pytest.raises(NoStorageData):
        await registry.load_file(record, tmp_path / "file")
    assert not (tmp_path / "file").exists()


# Stored content.


async def test_content_of_another_size_is_no_content_that_exists(tmp_path):
    registry = StorageRegistry([FileStorage(tmp_path)])
    record = await registry.save({"data": b"content", "content_type": "x/y", "content_encoding": None})
    blob = tmp_path / record.content_hash
    blob.chmod(0o600)
    blob.write_bytes(b"longer content")
    with pytest.raises(IntegrityError, match="14 bytes"):
        await registry.exists(record)


async def test_a_registry_lists_the_storage_that_is_named():
    archive = Archive()
    registry = StorageRegistry([memory(), archive], default=MemoryStorage.name)
    blob = {"data": b"old", "content_type": "x/y", "content_encoding": None}
    await registry.save(blob, storage=archive)
    assert [info async for info in registry.list()] == []
    assert [info.size async for info in registry.list(storage=archive.name)] == [3]


async def test_minimal_storage_raises_a_clear_error():
    registry = StorageRegistry([Shelf()])
    data = {"data": b"content", "content_type": "x/y", "content_encoding": None}
    record = await registry.save(data)
    assert await registry.exists(record)
    registry.get(record.storage_name).kept.clear()
    assert not await registry.exists(record)
    with pytest.raises(ConfigError, match="can't delete"):
        await registry.delete(record)
    with pytest.raises(ConfigError, match="can't list"):
        await anext(registry.list())


async def test_a_record_of_a_storage_that_is_not_there_is_refused():
    record = await StorageRegistry([Archive()]).save({"data": b"", "content_type": "x/y", "content_encoding": None})
    registry = StorageRegistry([memory()])
    for call in (registry.exists, registry.delete):
        with pytest.raises(NotRegistered):
            await call(record)
