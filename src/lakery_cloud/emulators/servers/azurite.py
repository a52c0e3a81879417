"""Azurite, Microsoft's emulator of Azure Blob Storage, in a process of its own on Node.js.

It runs without telemetry, keeps blobs in memory, and listens on 127.0.0.1 only.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from lakery_cloud.emulators.emulator import check_bucket_name
from lakery_cloud.emulators.install_node import NodePackage
from lakery_cloud.emulators.server import InstalledEmulator
from lakery_cloud.emulators.system import HOST, EmulatorError, clean_environment, http_status
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import MissingDependency

# Microsoft Learn, "Use the Azurite emulator", "Well-known storage account and key": every Azurite accepts it.
ACCOUNT_NAME = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

SWEEP_INTERVAL = 6 * 3600
"""Seconds between two sweeps of deleted content.

Azurite answers nothing during a sweep, which takes longer than the time-outs of clients after thousands of deletions, since
it searches all content for each of them. It sweeps every ten minutes, and has no option for that. A run of all tests
on a busy machine takes more than an hour.
"""
# Node.js leaves out the script's name with --eval, so `main` is where it would be.
_RUN = f"""
const main = process.argv[1];
require(main.replace(/main.js$/, "utils/constants.js")).DEFAULT_GC_INTERVAL_MS = {SWEEP_INTERVAL * 1000};
require(main);
"""


class Azurite(InstalledEmulator):
    """Azurite's blob service.

    It keeps other writers' blocks where Azure discards them, and completes every copy at once.

    Args:
        port: The port to listen on; a free one if not given.
    """

    name: ClassVar[str] = "azurite"
    api: ClassVar[str] = "Blob Storage"
    url_scheme: ClassVar[str] = "az"
    version: ClassVar[str] = "3.37.0"
    READY_LOG: ClassVar[str] = "successfully listens on"
    STOP_GRACE: ClassVar[float] = 0  # its data is not kept

    @property
    def connection_string(self) -> str:
        """The connection string for this server.

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
        self._change(bucket, "create_container", "create", allowed="ContainerAlreadyExists")

    def remove_bucket(self, bucket: str) -> None:
        self._change(bucket, "delete_container", "delete", allowed="ContainerNotFound")

    def _change(self, container: str, operation: str, verb: str, *, allowed: str) -> None:
        try:
            from azure.core.exceptions import AzureError
            from azure.storage.blob import ContainerClient
        except ImportError as error:
            raise MissingDependency(
                'Azure\'s SDK, which creates containers, is not installed: pip install "lakery-cloud[azure]"'
            ) from error
        with ContainerClient.from_connection_string(self.connection_string, container) as client:
            try:
                getattr(client, operation)()
            except AzureError as error:
                if getattr(error, "error_code", None) != allowed:
                    raise EmulatorError(f"{self.name} could not {verb} the container {container!r}: {error}") from error

    @property
    def _installation(self) -> NodePackage:
        return NodePackage(self.name, self.version)

    def _command(self) -> list[str]:
        return [
            *self._installation.node(),
            "--eval",
            _RUN,
            "--",
            str(self._installation.module / "dist" / "src" / "blob" / "main.js"),
            "--inMemoryPersistence",
            f"--blobHost={HOST}",
            f"--blobPort={self._ports[0]}",
            "--skipApiVersionCheck",  # SDKs use newer versions than Azurite supports
            "--silent",
            "--disableTelemetry",
        ]

    def _process_environment(self) -> dict[str, str]:
        return clean_environment("AZURE_", "AZURITE_", "NODE_")

    def _is_ready(self) -> bool:
        # A request without credentials is refused once the server works.
        return http_status(f"http://{HOST}:{self._ports[0]}/{ACCOUNT_NAME}?comp=list") == 403
