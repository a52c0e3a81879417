"""SeaweedFS as a process of its own: a real distributed store that checks signatures and checksums.

It never reports telemetry, and listens on 127.0.0.1 only.
"""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from lakery_cloud.emulators.install import Environment
from lakery_cloud.emulators.server import HOST, ProcessEmulator, clean_environment, http_status

GRPC_OFFSET = 10_000  # its gRPC ports are its HTTP ports + 10,000, as its log tells
GRPC_SOCKETS = Path("/tmp")  # noqa: S108, fixed in SeaweedFS, whatever TMPDIR says
WARM_UP_SIZE = 4096


class SeaweedFS(ProcessEmulator):
    """SeaweedFS' S3 gateway, with its master, volume server and filer in one process.

    It refuses wrong signatures, key segments over 255 characters and `..`; concurrent completions with
    If-None-Match have many winners.

    Args:
        port: The port of the S3 gateway, below 50,000; a free one if not given.
    """

    name: ClassVar[str] = "seaweedfs"
    version: ClassVar[str] = "4.48"
    READY_LOG: ClassVar[str] = "Start Seaweed S3 API Server"
    PORT_COUNT: ClassVar[int] = 4
    GRPC_OFFSET: ClassVar[int] = GRPC_OFFSET
    STOP_GRACE: ClassVar[float] = 0  # SIGTERM takes 15 seconds, and the data is thrown away anyhow

    def __init__(self, *, port: int | None = None) -> None:
        super().__init__(port=port)
        self._installed = Environment(f"{self.name}-{self.version}")

    def install(self, report: Callable[[str], None] | None = None) -> None:
        self._installed.install(report)

    def _command(self) -> list[str]:
        (self.folder / "data").mkdir()
        (self.folder / "s3.json").write_text(json.dumps(self._identities()), "utf-8")
        s3, master, volume, filer = self._ports
        # Paths are relative to the folder: a socket's path has room for about a hundred characters only.
        return [
            str(self._installed.executable("weed")),
            "-logdir=.",
            "server",
            "-dir=data",
            f"-ip={HOST}",
            f"-master.port={master}",
            "-master.volumeSizeLimitMB=64",
            "-master.telemetry=false",
            f"-volume.port={volume}",
            "-volume.max=200",
            "-volume.preStopSeconds=0",
            f"-filer.port={filer}",
            "-filer.localSocket=f.sock",
            "-s3",
            f"-s3.port={s3}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.localSocket=s.sock",
            "-s3.config=s3.json",
            "-s3.autoCreateBucket=false",
            "-s3.allowDeleteBucketNotEmpty=false",
        ]

    def _identities(self) -> dict[str, object]:
        credentials = {"accessKey": self.access_key_id, "secretKey": self.secret_access_key}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        return {"identities": [{"name": "test", "credentials": [credentials], "actions": actions}]}

    def _process_environment(self) -> dict[str, str]:
        return clean_environment("WEED_") | {
            "WEED_S3_SSE_KEY": "test",  # without a key it refuses server-side encryption
            "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1",  # or it makes seven volumes for a bucket's first object
        }

    def _is_ready(self) -> bool:
        s3, _, _, filer = self._ports
        return http_status(f"http://{HOST}:{s3}/status") == 200 and self._warm_up(filer)

    def _warm_up(self, filer: int) -> bool:
        """Write one file through the filer, which shows that volumes can grow, and delete it again."""
        url = f"http://{HOST}:{filer}/warm-up"
        if http_status(f"{url}/file", method="PUT", data=bytes(WARM_UP_SIZE)) != 201:
            return False
        return http_status(f"{url}?recursive=true", method="DELETE") == 204

    def _remove_leftovers(self) -> None:
        for port in self._ports:
            for path in GRPC_SOCKETS.glob(f"seaweedfs-*-grpc-{port + GRPC_OFFSET}.sock"):
                with contextlib.suppress(OSError):
                    path.unlink()
