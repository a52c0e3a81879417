"""Installs what a server needs into an environment of its own below the cache folder, once per machine.

It never changes the environment that we run in, and never uses a half-made one.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import platformdirs

from lakery_cloud.emulators.server import ProcessEmulator
from lakery_cloud.emulators.system import EmulatorError, clean_environment, tail

CONSTRAINTS = Path(__file__).with_name("constraints")
MARKER = "complete"
"""A file in the environment's folder, written last."""


def cache_folder() -> Path:
    """`$LAKERY_CLOUD_CACHE`, or the user's cache folder."""
    chosen = os.environ.get("LAKERY_CLOUD_CACHE")
    return Path(chosen).absolute() if chosen else platformdirs.user_cache_path("lakery-cloud")


class Environment:
    """A virtual environment made from one constraint file, named after its content.

    Args:
        title: The name of the constraint file without its ending, `<name>-<version>`.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.constraints = CONSTRAINTS / f"{title}.txt"

    @property
    def folder(self) -> Path:
        """Where the environment lies; another constraint file gives another folder."""
        content_hash = hashlib.sha256(self.constraints.read_bytes()).hexdigest()
        return cache_folder() / "emulators" / f"{self.title}-{content_hash[:8]}"

    @property
    def is_installed(self) -> bool:
        """Whether it is complete and the Python it was made from is still there."""
        return (self.folder / MARKER).exists() and self.executable("python").exists()

    def executable(self, name: str) -> Path:
        """The path of a program in it."""
        if sys.platform == "win32":
            return self.folder / "Scripts" / f"{name}.exe"
        return self.folder / "bin" / name

    def install(self, report: Callable[[str], None] | None = None) -> None:
        """Make the environment if it is not complete; of several processes one does it and the others wait.

        Raises:
            EmulatorError: The environment cannot be made, or pip failed; the message ends with its output.
        """
        if self.is_installed:
            return
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(self.folder.with_name(f"{self.folder.name}.lock")):
                if not self.is_installed:
                    self._make(report or (lambda _: None))
        except OSError as error:
            raise EmulatorError(f"{self.title} cannot be installed into {self.folder}: {error}") from error

    def _make(self, report: Callable[[str], None]) -> None:
        report(f"installing {self.title} into {self.folder}, once")
        shutil.rmtree(self.folder, ignore_errors=True)  # what an interrupted install left
        self._run(sys.executable, "-m", "venv", str(self.folder))
        python = str(self.executable("python"))
        options = ["--no-deps", "--no-input", "--disable-pip-version-check"]
        self._run(python, "-m", "pip", "install", *options, "-r", str(self.constraints))
        (self.folder / MARKER).touch()
        report(f"installed {self.title}")

    def _run(self, *command: str) -> None:
        done = subprocess.run(  # noqa: S603, venv and pip with our own constraint file
            command,
            check=False,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if done.returncode:
            raise EmulatorError(
                f"{self.title} cannot be installed: {' '.join(command)} ended with exit code"
                f" {done.returncode}. The end of its output:\n{tail(done.stdout)}"
            )


class InstalledEmulator(ProcessEmulator):
    """A server that is installed into an environment of its own.

    Args:
        port: The port to listen on; a free one if not given.
    """

    version: ClassVar[str]

    def __init__(self, *, port: int | None = None) -> None:
        super().__init__(port=port)
        self._installed = self._environment()

    def _environment(self) -> Environment:
        return Environment(f"{self.name}-{self.version}")

    @property
    def release(self) -> str:
        return self.version

    @property
    def is_installed(self) -> bool:
        return self._installed.is_installed

    def install(self, report: Callable[[str], None] | None = None) -> None:
        self._installed.install(report)


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold a lock between processes; the system lets go of it when its holder dies."""
    with path.open("a+b") as file:
        if sys.platform == "win32":
            import msvcrt

            # Waits ten seconds at most by itself.
            while True:
                with contextlib.suppress(OSError):
                    file.seek(0)
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
                    break
                time.sleep(1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file unlocks it
