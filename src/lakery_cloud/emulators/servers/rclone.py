"""`rclone serve s3` in a process of its own: a folder behind S3's API that ignores conditions and checksums.

It is for tests that must detect this. `EMULATORS` does not include it, since it is no basis for other tests.
"""

from typing import ClassVar

from lakery_cloud.emulators.server import InstalledEmulator
from lakery_cloud.emulators.servers.s3 import S3Emulator
from lakery_cloud.emulators.system import HOST, clean_environment


class RcloneS3(S3Emulator, InstalledEmulator):
    """rclone's S3 gateway to a temporary folder; its subfolders are the buckets.

    Args:
        port: The port to listen on; a free one if not given.
    """

    name: ClassVar[str] = "rclone"
    version: ClassVar[str] = "1.75.2"
    READY_LOG: ClassVar[str] = "Starting s3 server"
    STOP_GRACE: ClassVar[float] = 0  # its data is not kept

    def _command(self) -> list[str]:
        (self.folder / "data").mkdir()
        return [
            str(self._environment.executable("rclone")),
            *("serve", "s3"),
            *("--config", "none.conf"),  # do not read the user's configuration
            *("--auth-key", f"{self.access_key_id},{self.secret_access_key}"),
            *("--addr", f"{HOST}:{self._ports[0]}"),
            "data",
        ]

    def _process_environment(self) -> dict[str, str]:
        return clean_environment("RCLONE_")

    def _is_ready(self) -> bool:
        return True
