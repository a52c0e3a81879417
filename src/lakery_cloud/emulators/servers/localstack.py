"""LocalStack from PyPI, S3 only, in a process of its own: close to S3 except that it checks no signatures.

It never connects to LocalStack's own services, and listens on 127.0.0.1 only.
"""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

from lakery_cloud.emulators.server import InstalledEmulator
from lakery_cloud.emulators.servers.s3 import S3Emulator
from lakery_cloud.emulators.system import HOST, clean_environment, http_status

# LocalStack 4.12 ignores the host in GATEWAY_LISTEN and binds every interface, and all its instances keep their objects in
# one folder. This program overrides both.
PROGRAM = f"""
import functools, tempfile
from twisted.internet import endpoints
endpoints.TCP4ServerEndpoint = functools.partial(endpoints.TCP4ServerEndpoint, interface={HOST!r})
from localstack.services.s3 import provider
provider.DEFAULT_S3_TMP_DIR = tempfile.mkdtemp(prefix="s3-")
from localstack.runtime.main import main
main()
"""
CATALOG = "service-catalog-*.dill"
"""The index of all AWS operations, which the first start builds in about four seconds."""


class LocalStack(S3Emulator, InstalledEmulator):
    """LocalStack's S3.

    It accepts any credentials, omits non-ASCII keys from later pages of a listing, and responds 404 to a second completion
    of an upload.

    Args:
        port: The port to listen on; a free one if not given.
    """

    name: ClassVar[str] = "localstack"
    version: ClassVar[str] = "4.12.0"
    READY_LOG: ClassVar[str] = "Ready."

    def _command(self) -> list[str]:
        for folder in (self._cache, self._temporary):
            folder.mkdir(parents=True)
        copy_files(self._shared_cache, self._cache, CATALOG)
        return [str(self._environment.executable("python")), "-c", PROGRAM]

    def _process_environment(self) -> dict[str, str]:
        return clean_environment("LOCALSTACK_", "S3_") | {
            "SERVICES": "s3",
            "STRICT_SERVICE_LOADING": "1",
            "EAGER_SERVICE_LOADING": "1",
            "GATEWAY_LISTEN": f"{HOST}:{self._ports[0]}",
            "PERSISTENCE": "0",
            "DEBUG": "0",
            "DISABLE_EVENTS": "1",
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "DNS_ADDRESS": "0",
            # Otherwise, in any container, it assumes that it runs in its own image, and writes to /etc and /var/lib.
            "OVERRIDE_IN_DOCKER": "0",
            "FILESYSTEM_ROOT": str(self._root),
            "CONFIG_DIR": str(self.folder),  # otherwise it reads the user's LocalStack profile
            "TMPDIR": str(self._temporary),
            "XDG_CACHE_HOME": str(self._shared_cache),
            "PYTHONUNBUFFERED": "1",
        }

    def _is_ready(self) -> bool:
        if http_status(f"http://{HOST}:{self._ports[0]}/_localstack/health") != 200:
            return False
        copy_files(self._cache, self._shared_cache, CATALOG)
        return True

    @property
    def _root(self) -> Path:
        return self.folder / "root"

    @property
    def _temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def _cache(self) -> Path:
        return self._root / "var" / "lib" / "localstack" / "cache"

    @property
    def _shared_cache(self) -> Path:
        return self._installation.folder / "cache"


def copy_files(source: Path, target: Path, pattern: str) -> None:
    """Copy the files that the target lacks. Each copy is atomic, since several processes may copy at once."""
    # A failure only makes later starts slower.
    with contextlib.suppress(OSError):
        target.mkdir(parents=True, exist_ok=True)
        for path in source.glob(pattern):
            if (target / path.name).exists():
                continue
            handle, part = tempfile.mkstemp(dir=target)
            os.close(handle)
            shutil.copyfile(path, part)
            Path(part).replace(target / path.name)
