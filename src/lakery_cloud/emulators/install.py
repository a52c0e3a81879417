"""Installs a server into its own folder in the cache folder, once per machine.

It never changes the environment of the running Python, and never uses an incomplete installation.
"""

import abc
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import platformdirs

from lakery_cloud.emulators.system import EmulatorError, clean_environment, file_lock, tail

CONSTRAINTS = Path(__file__).with_name("constraints")
MAX_DURATION = 900
"""Seconds for one step of an installation. The largest downloads some hundred megabytes."""
ANSWER_TIMEOUT = 15
"""Seconds to wait for a package index."""
MARKER = "complete"
"""A file in the folder of an installation, written last."""


def cache_folder() -> Path:
    """Return `$LAKERY_CLOUD_CACHE`, or the user's cache folder."""
    chosen = os.environ.get("LAKERY_CLOUD_CACHE")
    return Path(chosen).absolute() if chosen else platformdirs.user_cache_path("lakery-cloud")


class Installation(abc.ABC):
    """Programs in a folder of their own.

    Args:
        title: What is installed, `<name>-<version>`.
    """

    max_duration: float = MAX_DURATION

    def __init__(self, title: str) -> None:
        self.title = title

    @property
    @abc.abstractmethod
    def folder(self) -> Path:
        """The folder of the installation."""

    @property
    @abc.abstractmethod
    def is_installed(self) -> bool:
        """Whether the installation is complete and can run."""

    def install(self, report: Callable[[str], None] | None = None) -> None:
        """Install unless installed. Only one process installs at a time; others wait for it.

        Args:
            report: Gets a sentence before and after the installation.

        Raises:
            EmulatorError: The installation failed; the message has the end of its output.
        """
        if self.is_installed:
            return
        report = report or (lambda _: None)
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(self.folder.with_name(f"{self.folder.name}.lock")):
                if not self.is_installed:
                    report(f"installing {self.title} into {self.folder}, once")
                    shutil.rmtree(self.folder, ignore_errors=True)  # left by an interrupted installation
                    self._install()
                    (self.folder / MARKER).touch()
                    report(f"installed {self.title}")
        except OSError as error:
            raise EmulatorError(f"{self.title} cannot be installed into {self.folder}: {error}") from error

    @abc.abstractmethod
    def _install(self) -> None:
        """Install into `folder`, which does not exist."""

    def _run(self, *command: str) -> None:
        try:
            done = subprocess.run(  # noqa: S603, installers with our own arguments
                command,
                check=False,
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=self.max_duration,
            )
        except subprocess.TimeoutExpired as error:
            raise EmulatorError(
                f"{self.title} cannot be installed: {' '.join(command)} did not end within {self.max_duration} seconds; "
                "check that the package index can be reached"
            ) from error
        if done.returncode:
            raise EmulatorError(
                f"{self.title} cannot be installed: {' '.join(command)} ended with exit code"
                f" {done.returncode}. The end of its output:\n{tail(done.stdout)}"
            )

    def _make_venv(self, folder: Path) -> str:
        """Create a virtual environment and return the path of its Python."""
        self._run(sys.executable, "-m", "venv", str(folder))
        return str(folder / "bin" / "python")

    def _pip_install(self, python: str, *arguments: str) -> None:
        options = ["--no-deps", "--no-input", "--disable-pip-version-check"]
        options += ["--retries=2", f"--timeout={ANSWER_TIMEOUT}"]
        self._run(python, "-m", "pip", "install", *options, *arguments)


class Environment(Installation):
    """A virtual environment with the packages of one constraint file.

    Args:
        title: The name of the constraint file without its ending, `<name>-<version>`.
        constraints: The folder of the constraint file.
        group: The folder in the cache folder.
    """

    def __init__(self, title: str, *, constraints: Path | None = None, group: str = "emulators") -> None:
        super().__init__(title)
        self.constraints = (constraints or CONSTRAINTS) / f"{title}.txt"
        self._group = group

    @property
    def folder(self) -> Path:
        """The folder of the environment; it depends on the content of the constraint file."""
        content_hash = hashlib.sha256(self.constraints.read_bytes()).hexdigest()
        return cache_folder() / self._group / f"{self.title}-{content_hash[:8]}"

    @property
    def is_installed(self) -> bool:
        """Whether the environment is complete and its base Python still exists."""
        return (self.folder / MARKER).exists() and self.executable("python").exists()

    def executable(self, name: str) -> Path:
        """Return the path of a program in the environment."""
        return self.folder / "bin" / name

    def _install(self) -> None:
        self._pip_install(self._make_venv(self.folder), "-r", str(self.constraints))
