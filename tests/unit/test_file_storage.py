"""Files: the hash is the path, only the owner can read, and nothing outside of the root is touched."""

import contextlib
import json
import os
import stat
import threading

import pytest

from lakery_cloud import (
    AccessDenied,
    BucketNotFound,
    ConfigError,
    DigestingStream,
    FileStorage,
    IntegrityError,
    LakeryCloudError,
    NoStorageData,
)
from tests.unit.file_storages import CONTENT, HASH, WRITES, files_below, write, write_stream

NOBODY = 65534


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@contextlib.contextmanager
def somebody_else():
    """The file system refuses what only root may do; root itself steps down for the length of the block."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


# Where and how.


@WRITES
async def test_content_lies_at_its_hash_and_nothing_else_is_left(tmp_path, save):
    root = tmp_path / "new" / "root"
    storage = FileStorage(root, part_size=10)
    assert await save(storage) == {"key": HASH, "hash": f"sha256:{HASH}", "size": len(CONTENT)}
    assert files_below(root) == [HASH]
    assert (root / HASH).read_bytes() == CONTENT
    assert (root / HASH).stat().st_nlink == 1


@WRITES
async def test_content_lies_below_the_prefix(tmp_path, save):
    storage = FileStorage(tmp_path, prefix="a b/%41/é", part_size=10)
    storage_data = await save(storage)
    assert storage_data["key"] == f"a b/%41/é/{HASH}"
    assert files_below(tmp_path) == [f"a b/%41/é/{HASH}"]
    assert await storage.read_data(storage_data) == CONTENT


@WRITES
async def test_files_and_new_folders_are_for_their_owner_alone(tmp_path, save):
    tmp_path.chmod(0o755)
    storage = FileStorage(tmp_path / "deep" / "root", prefix="a/b", part_size=10)
    mask = os.umask(0)
    try:
        await save(storage)
    finally:
        os.umask(mask)
    assert mode_of(tmp_path / "deep" / "root" / "a" / "b" / HASH) == 0o600
    folders = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert len(folders) == 5
    assert {mode_of(folder) for folder in folders} == {0o700}
    assert mode_of(tmp_path) == 0o755


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 40, 41])
@WRITES
async def test_content_of_any_size_is_read_as_it_was_written(tmp_path, save, size):
    storage = FileStorage(tmp_path, part_size=10)
    storage_data = await save(storage, CONTENT[:size])
    assert await storage.read_data(storage_data) == CONTENT[:size]
    assert [info.size async for info in storage.list()] == [size]


async def test_the_same_content_written_again_is_the_same_file(tmp_path):
    storage = FileStorage(tmp_path, part_size=10)
    first = await write(storage)
    inode = (tmp_path / HASH).stat().st_ino
    assert await write_stream(storage) == first
    assert await write(FileStorage(tmp_path)) == first
    assert files_below(tmp_path) == [HASH]
    assert (tmp_path / HASH).stat().st_ino == inode


@WRITES
async def test_content_survives_the_end_of_its_temporary_file(tmp_path, save):
    storage = FileStorage(tmp_path, part_size=10)
    storage_data = await save(storage)
    # A crash between the link and the deletion of the temporary name, and the sweep after it.
    leftover = tmp_path / ".tmp" / "leftover"
    leftover.hardlink_to(tmp_path / HASH)
    assert [info.address.key async for info in storage.list()] == [HASH]
    leftover.unlink()
    assert await storage.read_data(storage_data) == CONTENT


async def test_a_stream_that_breaks_leaves_nothing(tmp_path):
    async def breaks():
        yield CONTENT
        raise OSError("the source broke")

    storage = FileStorage(tmp_path, part_size=10)
    stream = DigestingStream({"data_stream": breaks(), "content_type": "a/b", "content_encoding": None})
    with pytest.raises(OSError, match="the source broke"):
        await storage.write_data_stream(stream, stream.get_digest, {})
    assert files_below(tmp_path) == []


async def test_moving_the_root_keeps_content_readable(tmp_path):
    storage_data = await write(FileStorage(tmp_path / "here", prefix="p"))
    (tmp_path / "here").rename(tmp_path / "there")
    for prefix in ("p", "", "other"):
        assert await FileStorage(tmp_path / "there", prefix=prefix).read_data(storage_data) == CONTENT
    with pytest.raises(BucketNotFound, match="here"):
        await FileStorage(tmp_path / "here", prefix="p").read_data(storage_data)


async def test_a_relative_root_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage = FileStorage("relative")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    await write(storage)
    assert files_below(tmp_path) == [f"relative/{HASH}"]


async def test_a_root_that_is_a_link_is_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "disk")
    storage = FileStorage(tmp_path / "root", part_size=10)
    assert await storage.read_data(await write_stream(storage)) == CONTENT
    assert files_below(tmp_path / "disk") == [HASH]


async def test_a_storage_from_a_url_is_the_same_storage(tmp_path):
    root = tmp_path / "a b#c?d%41"
    storage_data = await write(FileStorage(root))
    assert await FileStorage.from_url(f"{root.as_uri()}?create=false").read_data(storage_data) == CONTENT


@WRITES
async def test_tags_and_content_type_are_kept_beside_the_content_where_the_file_system_can(tmp_path, save):
    (tmp_path / "probe").touch()
    try:
        os.setxattr(tmp_path / "probe", "user.probe", b"")
    except (OSError, AttributeError):
        pytest.skip("this file system has no extended attributes")
    storage = FileStorage(tmp_path / "root", part_size=10)
    found = await storage.stat(await save(storage, tags={"project": "apollo"}))
    assert found.tags == {"project": "apollo"}
    assert (found.info.size, found.info.content_type) == (len(CONTENT), "text/plain")


# Deleting and listing.


async def test_deleted_content_is_gone_and_deleting_it_again_is_no_error(tmp_path):
    storage = FileStorage(tmp_path)
    storage_data = await write(storage)
    await storage.delete(storage_data)
    await storage.delete(storage_data)
    assert files_below(tmp_path) == []
    with pytest.raises(NoStorageData, match=HASH):
        await storage.read_data(storage_data)
    with pytest.raises(NoStorageData):
        await storage.stat(storage_data)
    assert await write(storage) == storage_data
    assert await storage.read_data(storage_data) == CONTENT


async def test_only_content_is_listed(tmp_path):
    storage = FileStorage(tmp_path, prefix="p")
    await write(storage)
    await write(FileStorage(tmp_path), b"above")
    await write(FileStorage(tmp_path, prefix="p/q"), b"below")
    (tmp_path / "p" / "readme.txt").write_text("not ours")
    (tmp_path / "p" / ("0" * 64)).mkdir()
    (tmp_path / "p" / ("1" * 64)).symlink_to(tmp_path / "p" / HASH)
    os.mkfifo(tmp_path / "p" / ("2" * 64))
    assert [info.address.key async for info in storage.list()] == [f"p/{HASH}"]


async def test_empty_storage_lists_nothing_and_a_missing_one_is_an_error(tmp_path):
    assert [info async for info in FileStorage(tmp_path).list()] == []
    assert [info async for info in FileStorage(tmp_path, prefix="p").list()] == []
    assert [info async for info in FileStorage(tmp_path / "made on the first write").list()] == []
    with pytest.raises(BucketNotFound, match="missing"):
        [info async for info in FileStorage(tmp_path / "missing", create=False).list()]


async def test_a_listing_during_deletions_still_has_all_that_stays(tmp_path):
    storage = FileStorage(tmp_path)
    stays = await write(storage)
    fleeting = [tmp_path / f"{number:064x}" for number in range(100)]
    is_done = threading.Event()

    def come_and_go():
        while not is_done.is_set():
            for path in fleeting:
                path.touch()
            for path in fleeting:
                path.unlink()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(100):
            assert stays["key"] in [info.address.key async for info in storage.list()]
    finally:
        is_done.set()
        thread.join()


# Changes during a read.

LARGE = os.urandom(5 * 1024**2)


async def half_read(root):
    """A stream of a large file of which one chunk was read, the path of that file, and the rest of its content."""
    storage = FileStorage(root)
    storage_data = await write(storage, LARGE)
    chunks = storage.read_data_stream(storage_data)
    first = await anext(chunks)
    assert LARGE.startswith(first)
    assert 0 < len(first) < len(LARGE)
    return chunks, root / storage_data["key"], LARGE[len(first) :]


async def test_a_file_that_is_replaced_while_it_is_read_is_read_to_its_end(tmp_path):
    chunks, path, rest = await half_read(tmp_path)
    (tmp_path / "other").write_bytes(bytes(len(LARGE)))
    (tmp_path / "other").replace(path)
    assert b"".join([chunk async for chunk in chunks]) == rest


async def test_a_file_that_is_cut_short_while_it_is_read_is_an_integrity_error(tmp_path):
    chunks, path, _ = await half_read(tmp_path)
    os.truncate(path, 1000)
    with pytest.raises(IntegrityError):
        [chunk async for chunk in chunks]


async def test_a_file_that_is_changed_in_place_while_it_is_read_is_an_integrity_error(tmp_path):
    chunks, path, _ = await half_read(tmp_path)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(bytes([LARGE[-1] ^ 1]))
    with pytest.raises(IntegrityError):
        [chunk async for chunk in chunks]


async def test_a_file_that_is_deleted_while_it_is_read_is_read_to_its_end(tmp_path):
    chunks, path, rest = await half_read(tmp_path)
    path.unlink()
    assert b"".join([chunk async for chunk in chunks]) == rest


# Settings.


@pytest.mark.parametrize("prefix", ["a//b", "a//", "x" * 256, "a/" + "é" * 128, "a/../b", "a\x00", "/a", "a/."])
def test_a_prefix_that_no_file_system_can_hold_is_refused(tmp_path, prefix):
    with pytest.raises(ConfigError):
        FileStorage(tmp_path, prefix=prefix)


async def test_the_longest_segments_are_accepted(tmp_path):
    storage = FileStorage(tmp_path, prefix=f"{'x' * 255}/{'é' * 127}")
    assert await storage.read_data(await write(storage)) == CONTENT


@pytest.mark.parametrize("root", ["a\x00b", "a\ud800b"], ids=repr)
async def test_a_root_that_no_path_can_spell_is_refused(tmp_path, root):
    with pytest.raises(LakeryCloudError):
        await write(FileStorage(f"{tmp_path}/{root}"))


@WRITES
async def test_a_root_that_must_be_there_is_not_made(tmp_path, save):
    storage = FileStorage(tmp_path / "root", create=False, part_size=10)
    with pytest.raises(BucketNotFound, match="root.*Create it"):
        await save(storage)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "root").mkdir()
    assert await storage.read_data(await save(storage)) == CONTENT


async def test_reading_makes_no_folder(tmp_path):
    storage = FileStorage(tmp_path / "root")
    with pytest.raises(BucketNotFound):
        await storage.read_data({"key": HASH})
    assert list(tmp_path.iterdir()) == []


# Errors of the operating system.


@WRITES
async def test_a_file_in_the_place_of_the_root_is_an_error_that_names_it(tmp_path, save):
    (tmp_path / "root").write_text("not a folder")
    for root in (tmp_path / "root", tmp_path / "root" / "below"):
        with pytest.raises(LakeryCloudError, match="root"):
            await save(FileStorage(root, part_size=10))
    assert (tmp_path / "root").read_text() == "not a folder"


@WRITES
async def test_a_file_in_the_place_of_the_prefix_is_an_error_and_nothing_is_left(tmp_path, save):
    (tmp_path / "p").write_text("not a folder")
    with pytest.raises(LakeryCloudError, match="'p/"):
        await save(FileStorage(tmp_path, prefix="p", part_size=10))
    assert files_below(tmp_path) == ["p"]


@WRITES
async def test_a_folder_that_may_not_be_written_is_access_denied(tmp_path, save):
    root = tmp_path / "root"
    storage = FileStorage(root, part_size=10)
    await save(storage, b"so that all that is needed is loaded")
    for folder in (root / ".tmp", root):
        folder.chmod(0o555)
    tmp_path.chmod(0o755)
    with somebody_else(), pytest.raises(AccessDenied, match="check the owner and mode") as caught:
        await save(storage)
    assert isinstance(caught.value.__cause__, PermissionError)
    assert len(files_below(root)) == 1


async def test_content_that_may_not_be_read_is_access_denied(tmp_path):
    storage = FileStorage(tmp_path / "root")
    storage_data = await write(storage)
    assert await storage.read_data(storage_data) == CONTENT
    (tmp_path / "root").chmod(0o000)
    try:
        with somebody_else(), pytest.raises(AccessDenied) as caught:
            await storage.read_data(storage_data)
    finally:
        (tmp_path / "root").chmod(0o700)
    assert isinstance(caught.value.__cause__, PermissionError)


async def test_a_name_that_is_too_long_for_the_system_is_an_error_of_ours(tmp_path):
    storage = FileStorage(tmp_path, prefix="/".join(["x" * 200] * 4))
    for _ in range(6):
        storage = FileStorage(f"{storage.keys.bucket}/{'y' * 200}/{'z' * 200}/{'w' * 200}", prefix=storage.keys.prefix)
    with pytest.raises(LakeryCloudError, match="too long"):
        await write(storage)


async def test_storage_data_is_json(tmp_path):
    storage = FileStorage(tmp_path)
    storage_data = await write(storage)
    text = storage.serialize_storage_data(storage_data)
    assert json.loads(text) == storage_data
    assert str(tmp_path) not in text
    assert storage.deserialize_storage_data(text) == storage_data
