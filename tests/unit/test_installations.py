"""Installations of local servers end, also if a package index doesn't answer."""

from pathlib import Path

import pytest

from lakery_cloud.emulators.install import Installation
from lakery_cloud.emulators.system import EmulatorError


class Endless(Installation):
    """An installer that hangs for longer than it may."""

    max_duration = 0.2
    is_installed = False

    def __init__(self, folder: Path) -> None:
        super().__init__("endless-1.0")
        self._folder = folder

    @property
    def folder(self) -> Path:
        return self._folder / "endless"

    def _install(self) -> None:
        self.folder.mkdir()
        self._run("sleep", "5")


def test_installation_that_hangs_ends_and_says_what_did_not(tmp_path: Path) -> None:
    with pytest.raises(
        EmulatorError, match=r"endless-1\.0 cannot be installed: sleep 5 did not end within 0\.2 seconds"
    ):
        Endless(tmp_path).install()
