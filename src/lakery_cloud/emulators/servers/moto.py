"""moto's S3 as a server in a thread of this process, which starts at once, or in a process of its own.

It verifies neither signatures nor checksums. cheroot serves it, since werkzeug closes each connection after one response,
unlike S3.
"""

import importlib.util
import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import TYPE_CHECKING, ClassVar, Self

from lakery_cloud.emulators.server import PortTakenError, ProcessEmulator
from lakery_cloud.emulators.servers.s3 import S3Emulator
from lakery_cloud.emulators.system import HOST, clean_environment, is_answering
from lakery_cloud.errors import MissingDependency

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from cheroot.wsgi import Server

logger = logging.getLogger(__name__)

THREADS = 16
PROGRAM = """
import sys, threading
from lakery_cloud.emulators import MotoServer
with MotoServer(port=int(sys.argv[1])):
    print(sys.argv[2], flush=True)
    threading.Event().wait()
"""

_running: set["MotoServer"] = set()
_running_lock = threading.Lock()


class Moto(S3Emulator):
    """The common base of moto's two servers. moto must be installed in the running Python's environment."""

    name: ClassVar[str] = "moto"

    @property
    def release(self) -> str:
        try:
            return metadata.version("moto")
        except metadata.PackageNotFoundError:
            return ""

    @property
    def is_installed(self) -> bool:
        return all(importlib.util.find_spec(name) for name in ("moto", "cheroot", "flask"))

    def install(self, report: Callable[[str], None] | None = None) -> None:
        """Check that moto is installed; this never installs it.

        Raises:
            MissingDependency: moto is not installed.
        """
        if not self.is_installed:
            raise MissingDependency('moto is not installed: pip install "lakery-cloud[testing]"')


class MotoServer(Moto):
    """moto's server in a thread of this process.

    moto's state belongs to the process: two servers in one process serve the same buckets. When the last one stops, the
    state is reset.

    Args:
        port: The port to listen on; a free one if not given.
    """

    def __init__(self, *, port: int | None = None) -> None:
        super().__init__(port=port)
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> Self:
        if self._server is not None:
            return self
        self.install()
        from cheroot.wsgi import Server

        class QuietServer(Server):
            def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
                # By default cheroot prints errors, and moto fails on each part that arrives after its upload is aborted.
                logger.debug("%s", msg, exc_info=traceback)

        if self._fixed_port is not None and is_answering(self._fixed_port):
            raise PortTakenError(f"{self.name} cannot start: something already listens on port {self._fixed_port}")
        server = QuietServer((HOST, self._fixed_port or 0), _adapted(_application()), numthreads=THREADS)
        server.prepare()
        self._thread = threading.Thread(target=server.serve, name=f"moto-{server.bind_addr[1]}", daemon=True)
        self._thread.start()
        self._server = server
        self._endpoint_url = f"http://{HOST}:{server.bind_addr[1]}"
        with _running_lock:
            _running.add(self)
        return self

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is None or self._thread is None:
            return
        self._endpoint_url = None
        server.stop()
        self._thread.join()
        with _running_lock:
            _running.discard(self)
            if not _running:
                _reset()


class MotoProcess(Moto, ProcessEmulator):
    """moto's server in a process of its own, which shares no state with other uses of moto.

    Args:
        port: The port to listen on; a free one if not given.
    """

    READY_LOG: ClassVar[str] = "moto is ready"
    STOP_GRACE: ClassVar[float] = 0  # its data is not kept

    def _command(self) -> list[str]:
        return [sys.executable, "-P", "-c", PROGRAM, str(self._ports[0]), self.READY_LOG]

    def _process_environment(self) -> dict[str, str]:
        python = {name: value for name, value in os.environ.items() if name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        return clean_environment() | python

    def _is_ready(self) -> bool:
        return True


def _application() -> "WSGIApplication":
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    application: WSGIApplication = DomainDispatcherApplication(create_backend_app)
    return application


def _adapted(application: "WSGIApplication") -> "WSGIApplication":
    """Adapt the application to cheroot.

    It sets RAW_URI, as werkzeug does; otherwise moto decodes keys with a `%` twice. It runs one request at a time: two
    concurrent copies to one key read each other's closed files and fail with 500.
    """
    lock = threading.Lock()

    def run(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        environ["RAW_URI"] = environ["REQUEST_URI"]
        # Read the body before taking the lock, so that a slow client does not block others.
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
        with lock:
            return application(environ, start_response)

    return run


def _reset() -> None:
    """Delete all of moto's state in this process."""
    from werkzeug.test import Client

    Client(_application()).post("/moto-api/reset")
