"""The command in this process, which is many times faster than in a new one."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lakery_cloud.cli.main import run
from tests.helpers import hash_of


@dataclass(frozen=True)
class Done:
    """The exit code of a command, and its lines on standard output and standard error."""

    code: int
    out: list[str]
    errors: list[str]

    @property
    def json(self) -> list[Any]:
        return [json.loads(line) for line in self.out]

    @property
    def results(self) -> list[tuple[str, str]]:
        """File and result of each line that `--json` prints."""
        return [(line["file"], line["result"]) for line in self.json]


class Desk:
    """A folder to work in, and a storage in a folder of it."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.objects = folder / "objects"
        self._capfd = capfd

    def run(self, *arguments: object) -> Done:
        self._capfd.readouterr()
        code = run([*map(str, arguments)])
        output = self._capfd.readouterr()
        return Done(code, output.out.splitlines(), output.err.splitlines())

    def files(self, **contents: str) -> list[str]:
        """Make files, whose names have _ for / and end in .txt; give their names."""
        names = [f"{name.replace('_', '/')}.txt" for name in contents]
        for name, text in zip(names, contents.values(), strict=True):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)
        return names

    def stored(self, folder: str = "objects") -> set[str]:
        """Names of all files of a storage, temporary ones too."""
        return {path.name for path in (self.folder / folder).rglob("*") if path.is_file()}

    def break_key(self, text: str) -> str:
        """Put something else at the key of content, so that saving that fails; give the hash."""
        self.objects.mkdir(exist_ok=True)
        (self.objects / hash_of(text)).write_text("somebody else's")
        return hash_of(text)


@pytest.fixture
def desk(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk(tmp_path, capfd)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAKERY_CLOUD_STORAGE", desk.objects.as_uri())
    return desk


def tree(folder: Path) -> dict[str, str]:
    """Names and texts of all files below a folder."""
    return {os.path.relpath(path, folder): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}
