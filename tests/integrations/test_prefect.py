"""Prefect's result store keeps results by the recipe of its page, in a process with Prefect and the packages that it needs."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from lakery_cloud.emulators.install import Installation, cache_folder
from tests.helpers import PATIENCE

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "integrations" / "prefect.md"
CONSTRAINTS = HERE / "constraints" / "prefect.txt"


class Prefect(Installation):
    """Prefect and what it needs, in a folder before all other packages."""

    def __init__(self) -> None:
        super().__init__("prefect-3.9.1")

    @property
    def folder(self) -> Path:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        pins = hashlib.sha256(CONSTRAINTS.read_bytes()).hexdigest()[:8]
        return cache_folder() / "integrations" / f"{self.title}-{version}-{pins}"

    @property
    def is_installed(self) -> bool:
        return (self.folder / "complete").exists()

    def _install(self) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command = [*pip, "--no-compile", "--target", str(self.folder), "-r", str(CONSTRAINTS)]
        subprocess.run(command, check=True, timeout=PATIENCE)


def test_results_are_kept_once_and_loaded_by_their_records(tmp_path: Path) -> None:
    installation = Prefect()
    installation.install()
    path = os.pathsep.join([str(installation.folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, HERE / "prefect_results.py", PAGE, tmp_path],
        env={**os.environ, "PYTHONPATH": path, "PREFECT_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["loaded"] == [True, True]
    assert len(found["sizes"]) == 2 and max(found["sizes"]) < 2000, "Prefect keeps records"
    assert found["stored"] == 1, "equal results are stored once"
