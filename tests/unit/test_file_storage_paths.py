"""Storage data, links and irregular files lead `FileStorage` nowhere outside of its root."""

import contextlib
import os

import pytest

from lakery_cloud import (
    AccessDenied,
    FileStorage,
    IntegrityError,
    InvalidRecord,
    LakeryCloudError,
    NoStorageData,
    digest_data,
)
from tests.unit.file_storages import CONTENT, HASH, WRITES, files_below, write, write_stream

# Storage data that points elsewhere.


@pytest.mark.parametrize(
    "key",
    [
        *("../secret", "..", "a/../../secret", "a/..", "/etc/passwd", "//etc/passwd", ".", "./secret", "a//b", "a/"),
        *("secret\x00.txt", "\x00", f"a/{'x' * 256}", "é" * 128),
    ],
    ids=repr,
)
async def test_storage_data_that_points_outside_or_nowhere_is_refused(tmp_path, key):
    (tmp_path / "secret").write_bytes(CONTENT)
    (tmp_path / "root").mkdir()
    storage = FileStorage(tmp_path / "root")
    for use in (storage.read_data, storage.stat, storage.delete):
        with pytest.raises(InvalidRecord, match="no segment|255 bytes"):
            await use({"key": key})
    assert files_below(tmp_path) == ["secret"]


async def test_storage_data_that_no_path_can_spell_is_refused(tmp_path):
    storage = FileStorage(tmp_path)
    for use in (storage.read_data, storage.stat, storage.delete):
        with pytest.raises(InvalidRecord):
            await use({"key": "\ud800"})


async def test_an_absolute_path_in_storage_data_is_refused(tmp_path):
    (tmp_path / "secret").write_bytes(CONTENT)
    with pytest.raises(InvalidRecord):
        await FileStorage(tmp_path / "root").read_data({"key": str(tmp_path / "secret")})


async def test_a_folder_that_links_out_of_the_root_is_not_followed(tmp_path):
    outside, root = tmp_path / "outside", tmp_path / "root"
    await write(FileStorage(outside))
    root.mkdir()
    (root / "link").symlink_to(outside)
    storage = FileStorage(root)
    for use in (storage.read_data, storage.stat, storage.delete):
        with pytest.raises(AccessDenied, match="links that lead out are not followed"):
            await use({"key": f"link/{HASH}"})
    assert files_below(outside) == [HASH]


@WRITES
async def test_nothing_is_written_through_a_link_out_of_the_root(tmp_path, save):
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (root / "link").symlink_to(outside)
    with pytest.raises(AccessDenied):
        await save(FileStorage(root, prefix="link", part_size=10))
    assert list(outside.iterdir()) == []
    assert files_below(root) == []


async def test_nothing_is_listed_through_a_link_out_of_the_root(tmp_path):
    outside, root = tmp_path / "outside", tmp_path / "root"
    await write(FileStorage(outside))
    root.mkdir()
    (root / "link").symlink_to(outside)
    with contextlib.suppress(AccessDenied):
        assert [info async for info in FileStorage(root, prefix="link").list()] == []


async def test_a_folder_that_links_to_itself_is_an_error_of_ours(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(LakeryCloudError):
        await FileStorage(tmp_path).read_data({"key": f"loop/{HASH}"})


async def test_a_folder_that_links_to_another_below_the_root_is_followed(tmp_path):
    await write(FileStorage(tmp_path, prefix="real"))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert await FileStorage(tmp_path).read_data({"key": f"link/{HASH}"}) == CONTENT


# Something else in the place of content.


def a_link(path):
    target = path.parent / "target"
    target.write_bytes(CONTENT)
    path.symlink_to(target)


def a_dangling_link(path):
    path.symlink_to(path.parent / "nowhere")


THINGS = pytest.mark.parametrize(
    "put", [a_link, a_dangling_link, os.mkfifo, os.mkdir], ids=["link", "dangling link", "fifo", "folder"]
)


@THINGS
async def test_irregular_file_is_not_read(tmp_path, put):
    put(tmp_path / HASH)
    storage = FileStorage(tmp_path)
    for use in (storage.read_data, storage.stat):
        with pytest.raises(NoStorageData):
            await use({"key": HASH})
    digest = await digest_data({"data": CONTENT, "content_type": "a/b", "content_encoding": None})
    assert await storage.find(digest) is None
    assert [info async for info in storage.list()] == []


@THINGS
@WRITES
async def test_irregular_file_is_not_overwritten(tmp_path, put, save):
    put(tmp_path / HASH)
    before = (tmp_path / HASH).lstat()
    files = files_below(tmp_path)
    with pytest.raises(LakeryCloudError):
        await save(FileStorage(tmp_path, part_size=10))
    after = (tmp_path / HASH).lstat()
    assert (after.st_ino, after.st_mode, after.st_size) == (before.st_ino, before.st_mode, before.st_size)
    assert files_below(tmp_path) == files


async def test_a_file_of_another_size_in_the_place_of_content_is_an_integrity_error_and_untouched(tmp_path):
    (tmp_path / HASH).write_bytes(b"somebody else's")
    storage = FileStorage(tmp_path, part_size=10)
    for save in (write, write_stream):
        with pytest.raises(IntegrityError, match="nothing was changed"):
            await save(storage)
    assert files_below(tmp_path) == [HASH]
    assert (tmp_path / HASH).read_bytes() == b"somebody else's"


async def test_damaged_content_is_an_integrity_error(tmp_path):
    storage = FileStorage(tmp_path)
    storage_data = await write(storage)
    for damaged in (CONTENT.swapcase(), CONTENT[:-1], CONTENT + b".", b""):
        (tmp_path / HASH).write_bytes(damaged)
        with pytest.raises(IntegrityError):
            await storage.read_data(storage_data)
