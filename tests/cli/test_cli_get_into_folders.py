"""`get` into a folder writes regular files inside of it, whatever names, links and devices are there."""

import json
import os
import socket
import stat
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from lakery_cloud.files import write_file
from tests.cli.desk import Desk

OBSTACLES: dict[str, tuple[str, Callable[[Path, Path], object]]] = {
    "linked folder": ("folder/file", lambda path, outside: path.parent.symlink_to(outside)),
    "folder linked far up": ("a/b/c/file", lambda path, outside: _below(path.parents[1]).symlink_to(outside)),
    "file for a folder": ("folder/file", lambda path, _: path.parent.write_bytes(b"kept")),
    "pipe": ("file", lambda path, _: os.mkfifo(path)),
    "pipe for a folder": ("folder/file", lambda path, _: os.mkfifo(path.parent)),
    "folder": ("file", lambda path, _: path.mkdir()),
    "socket": ("file", lambda path, _: _bind(path)),
    "device behind a linked folder": ("dev/null", lambda path, _: path.parent.symlink_to("/dev")),
    "parent": ("../file", lambda *_: None),
    "parent further down": ("a/../../file", lambda *_: None),
    "zero": ("fi\0le", lambda *_: None),
    "lone surrogate": ("\ud800", lambda *_: None),
    "long name": ("x" * 256, lambda *_: None),
}
"""What is in the way -> name in the records, and a function that puts it there."""

REPLACED: dict[str, tuple[str, Callable[[Path, Path], object]]] = {
    "nothing": ("file", lambda *_: None),
    "new folders": ("a/b/file", lambda *_: None),
    "absolute name": ("/a/file", lambda *_: None),
    "other content": ("file", lambda path, _: path.write_bytes(b"other")),
    "linked file": ("file", lambda path, outside: path.symlink_to(outside / "kept")),
    "linked file with the content": ("file", lambda path, outside: path.symlink_to(_content_at(outside))),
    "linked device": ("file", lambda path, _: path.symlink_to("/dev/full")),
    "dangling link": ("file", lambda path, outside: path.symlink_to(outside / "new")),
    "name that is no text": ("\udcff", lambda *_: None),
}


def _below(folder: Path) -> Path:
    folder.parent.mkdir()
    return folder


def _bind(path: Path) -> None:
    """A socket with a long path has no name, so go to its folder."""
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(before)


def _content_at(outside: Path) -> Path:
    (outside / "same").write_bytes(b"first")
    return outside / "same"


class Folders:
    """An output folder, a folder outside of it, and records of two files."""

    def __init__(self, desk: Desk) -> None:
        self.output, self.outside = desk.folder / "output", desk.folder / "outside"
        self.output.mkdir()
        self.outside.mkdir()
        (self.outside / "kept").write_bytes(b"kept")
        self._desk = desk
        self._records = []
        for data in (b"first", b"second"):
            (desk.folder / "source").write_bytes(data)
            saved = desk.run("put", desk.folder / "source", "--json", "--storage", desk.objects.as_uri())
            self._records.append(saved.json[0])

    def get(self, name: str) -> list[tuple[str, str]]:
        """Load the first file under a name and the second one beside it; return name and result of each."""
        lines = [{**self._records[0], "file": name}, {**self._records[1], "file": "second"}]
        records = self._desk.folder / "records.jsonl"
        records.write_text("".join(json.dumps(line) + "\n" for line in lines))
        options = ("--records", records, "--output", self.output, "--json", "--storage", self._desk.objects.as_uri())
        return self._desk.run("get", *options).results

    def outside_state(self) -> list[tuple[str, bytes]]:
        """Name and content of each file outside."""
        return [(path.name, path.read_bytes()) for path in sorted(self.outside.rglob("*"))]


@pytest.fixture
def folders(desk: Desk) -> Folders:
    return Folders(desk)


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_obstacle_fails_its_file_alone_and_nothing_outside_is_written(folders: Folders, obstacle: str) -> None:
    name, make = OBSTACLES[obstacle]
    make(folders.output / name, folders.outside)
    before = folders.outside_state()
    (_, refused), (_, loaded) = folders.get(name)
    assert (refused, loaded) == ("failed", "loaded")
    assert (folders.output / "second").read_bytes() == b"second"
    assert folders.outside_state() == before
    assert not (folders.output.parent / "file").exists()
    assert list(folders.output.rglob(".lakery-cloud-*")) == []


@pytest.mark.parametrize("place", REPLACED)
def test_file_is_regular_and_inside(folders: Folders, place: str) -> None:
    name, make = REPLACED[place]
    path = folders.output / name.removeprefix("/")
    make(path, folders.outside)
    before = folders.outside_state()
    assert [result for _, result in folders.get(name)] == ["loaded", "loaded"]
    assert not path.is_symlink()
    assert path.read_bytes() == b"first"
    assert folders.outside_state() == before
    assert [result for _, result in folders.get(name)] == ["there already", "there already"]


def test_replaced_file_keeps_its_mode(folders: Folders) -> None:
    path = folders.output / "file"
    path.write_bytes(b"other")
    path.chmod(0o754)
    folders.get("file")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"first", 0o754)


async def test_temporary_file_is_no_more_open_than_the_file_that_it_replaces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"private")
    path.chmod(0o4600)
    seen = []

    async def chunks() -> AsyncGenerator[bytes]:
        for _ in range(2):
            seen.extend(stat.filemode(found.stat().st_mode) for found in tmp_path.glob(".lakery-cloud-*"))
            yield b"content"

    await write_file(path, chunks())
    assert seen == ["-rw-------"] * 2
    assert stat.filemode(path.stat().st_mode) == "-rw-------"
