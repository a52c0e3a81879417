"""MiniStack, S3 only, in a process of its own: of concurrent conditional completions of uploads, exactly one succeeds.

It keeps objects in memory, uses no Docker, and listens on 127.0.0.1 only.
"""

from typing import ClassVar

from lakery_cloud.emulators.server import InstalledEmulator
from lakery_cloud.emulators.servers.s3 import S3Emulator
from lakery_cloud.emulators.system import HOST, clean_environment, http_status


class MiniStack(S3Emulator, InstalledEmulator):
    """MiniStack's S3.

    It checks signatures of presigned URLs only, accepts small parts, ignores If-None-Match of copies, loses the tags of
    multipart uploads, and refuses checksums of whole objects that were uploaded in parts.

    Args:
        port: The port to listen on; a free one if not given.
    """

    name: ClassVar[str] = "ministack"
    version: ClassVar[str] = "1.5.33"
    READY_LOG: ClassVar[str] = "Running on http://"  # its own "Ready" comes before it listens
    STOP_GRACE: ClassVar[float] = 0  # its data is not kept

    def _command(self) -> list[str]:
        return [str(self._environment.executable("ministack"))]

    def _process_environment(self) -> dict[str, str]:
        return clean_environment("MINISTACK_", "LOCALSTACK_", "S3_", "DOCKER_", "PERSIST_", "USE_SSL") | {
            "SERVICES": "s3",
            "BIND_HOST": HOST,
            "GATEWAY_PORT": str(self._ports[0]),
            "LOG_LEVEL": "INFO",  # READY_LOG has this level
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,  # for presigned URLs
            # Listeners on fixed ports, of services that this server does not offer.
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            "TMPDIR": str(self.folder),  # for its file with the process id
        }

    def _is_ready(self) -> bool:
        return http_status(f"http://{HOST}:{self._ports[0]}/_ministack/health") == 200
