"""moto's S3 as a server in a thread of our own process: starts at once.

It verifies neither signatures nor checksums; what it gets wrong is for the other servers to show. It is served by cheroot,
since werkzeug closes every connection after one answer, which no S3 does.
"""

import io
import logging
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar, Self

from lakery_cloud.emulators.server import HOST, Emulator
from lakery_cloud.errors import MissingDependency

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from cheroot.wsgi import Server

logger = logging.getLogger(__name__)

THREADS = 16

_running: set["MotoServer"] = set()
_running_lock = threading.Lock()


class MotoServer(Emulator):
    """moto's server on a free port.

    moto keeps its state per process: two servers in one process serve the same buckets, and the state is reset when the
    last of them stops.
    """

    name: ClassVar[str] = "moto"

    def __init__(self) -> None:
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    def install(self, report: Callable[[str], None] | None = None) -> None:
        """moto comes with our own environment, so this only checks that it is there.

        Raises:
            MissingDependency: It is not.
        """
        try:
            import cheroot.wsgi  # noqa: F401
            import moto.server  # noqa: F401
        except ImportError as error:
            raise MissingDependency('MotoServer needs moto and cheroot: pip install "lakery-cloud[test]"') from error

    def start(self) -> Self:
        if self._server is not None:
            return self
        self.install()
        from cheroot.wsgi import Server

        class QuietServer(Server):
            def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
                # cheroot would print it: moto fails on a part that arrives after its upload was aborted.
                logger.debug("%s", msg, exc_info=traceback)

        server = QuietServer((HOST, 0), _adapted(_application()), numthreads=THREADS)
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


def _application() -> "WSGIApplication":
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    application: WSGIApplication = DomainDispatcherApplication(create_backend_app)
    return application


def _adapted(application: "WSGIApplication") -> "WSGIApplication":
    """The application as cheroot must run it.

    It gets the path as it was sent under werkzeug's name for it, else moto decodes keys with a `%` twice. It gets one
    request at a time: two copies to one key at once read each other's closed files, and answer 500.
    """
    lock = threading.Lock()

    def run(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        environ["RAW_URI"] = environ["REQUEST_URI"]
        # The body is read before the lock is taken, so that a slow client holds up nobody else.
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
        with lock:
            return application(environ, start_response)

    return run


def _reset() -> None:
    """Forget all that moto holds in this process."""
    from werkzeug.test import Client

    Client(_application()).post("/moto-api/reset")
