"""SeaweedFS in a process of its own: a real distributed store that checks signatures and checksums.

It runs without telemetry, and listens on 127.0.0.1 only.
"""

import json
from pathlib import Path
from typing import ClassVar

from lakery_cloud.emulators.server import InstalledEmulator
from lakery_cloud.emulators.servers.s3 import S3Emulator
from lakery_cloud.emulators.system import HOST, clean_environment, http_status

GRPC_OFFSET = 10_000  # its gRPC ports are its HTTP ports + 10,000, according to its log
GRPC_SOCKETS = Path("/tmp")  # noqa: S108, hard-coded in SeaweedFS, which ignores TMPDIR
WARM_UP_SIZE = 4096
READER = ("reader", "readersecret")
"""Access key and secret of an identity that may only read and list."""


class SeaweedFS(S3Emulator, InstalledEmulator):
    """SeaweedFS' S3 gateway, with master, volume server and filer in one process.

    It refuses wrong signatures, key segments over 255 characters and `..`. Several concurrent completions with
    If-None-Match may succeed.

    Args:
        port: The port of the S3 gateway, below 50,000; a free one if not given.
    """

    name: ClassVar[str] = "seaweedfs"
    version: ClassVar[str] = "4.48"
    READY_LOG: ClassVar[str] = "Start Seaweed S3 API Server"
    PORT_COUNT: ClassVar[int] = 4
    GRPC_OFFSET: ClassVar[int] = GRPC_OFFSET
    STOP_GRACE: ClassVar[float] = 0  # SIGTERM takes 15 seconds, and its data is not kept

    def _command(self) -> list[str]:
        (self.folder / "data").mkdir()
        (self.folder / "s3.json").write_text(json.dumps(self._identities()), "utf-8")
        s3, master, volume, filer = self._ports
        # Relative paths: the path of a socket is limited to about a hundred characters.
        return [
            str(self._environment.executable("weed")),
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
        return {
            "identities": [
                _identity("test", self.access_key_id, self.secret_access_key, "Admin Read Write List Tagging"),
                _identity("reader", *READER, "Read List"),
            ]
        }

    def _process_environment(self) -> dict[str, str]:
        return clean_environment("WEED_") | {
            "WEED_S3_SSE_KEY": "test",  # needed for server-side encryption
            "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1",  # otherwise a bucket's first object creates seven volumes
        }

    def _is_ready(self) -> bool:
        s3, _, _, filer = self._ports
        return http_status(f"http://{HOST}:{s3}/status") == 200 and self._warm_up(filer)

    def _warm_up(self, filer: int) -> bool:
        """Write and delete a file through the filer, to check that volumes can grow."""
        url = f"http://{HOST}:{filer}/warm-up"
        if http_status(f"{url}/file", method="PUT", data=bytes(WARM_UP_SIZE)) != 201:
            return False
        return http_status(f"{url}?recursive=true", method="DELETE") == 204

    def _leftovers(self) -> list[str]:
        return [f"{GRPC_SOCKETS}/seaweedfs-*-grpc-{port + GRPC_OFFSET}.sock" for port in self._ports]


def _identity(name: str, access_key_id: str, secret_access_key: str, actions: str) -> dict[str, object]:
    credentials = {"accessKey": access_key_id, "secretKey": secret_access_key}
    return {"name": name, "credentials": [credentials], "actions": actions.split()}
