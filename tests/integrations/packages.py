"""Another project and the packages that it needs, in a folder before all other packages of a process."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from lakery_cloud.emulators.install import Installation, cache_folder
from tests.helpers import PATIENCE

CONSTRAINTS = Path(__file__).with_name("constraints")


class Packages(Installation):
    """The packages of a constraint file.

    Args:
        name: Name of the project and of the file.
    """

    def __init__(self, name: str) -> None:
        self._constraints = CONSTRAINTS / f"{name}.txt"
        pins = hashlib.sha256(self._constraints.read_bytes()).hexdigest()[:8]
        super().__init__(f"{name}-{sys.version_info.major}.{sys.version_info.minor}-{pins}")

    @property
    def folder(self) -> Path:
        return cache_folder() / "integrations" / self.title

    @property
    def is_installed(self) -> bool:
        return (self.folder / "complete").exists()

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process with these packages."""
        path = filter(None, [str(self.folder), os.environ.get("PYTHONPATH")])
        return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}

    def _install(self) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command = [*pip, "--no-compile", "--target", str(self.folder), "-r", str(self._constraints)]
        subprocess.run(command, check=True, timeout=PATIENCE)
