"""What every local server has in common: start, address, credentials, stop; and how a server process is kept.

Nothing here knows a particular server, and nothing is left behind by a server that was stopped.
"""

import abc
import atexit
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from lakery_cloud.errors import LakeryCloudError

HOST = "127.0.0.1"
PORTS = range(12_000, 22_000)
"""Where free ports are looked for: these and the ports 10,000 above (SeaweedFS' gRPC) lie below Linux'
range for outgoing connections, so that no client connection takes them."""
START_TRIES = 3
POLL_INTERVAL = 0.05
LOG_TAIL_LINES = 30
PORT_TAKEN = re.compile(r"address already in use|only one usage of each socket address", re.IGNORECASE)

# Proxies are for the world outside; a check of our own machine must not go through one.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class EmulatorError(LakeryCloudError, RuntimeError):
    """A local server could not be installed or started; the message holds the tail of what it said."""


class PortTakenError(EmulatorError):
    """Someone else took a port between our choice and the server's start."""


class Emulator(abc.ABC):
    """A local server, started with `start` or a `with` block.

    Attributes:
        name: How the server is called in `EMULATORS`.
        access_key_id: The key that the server accepts.
        secret_access_key: Its secret.
        region: The region to give to a client.
    """

    name: ClassVar[str]
    access_key_id: str = "test"
    secret_access_key: str = "testtest"  # noqa: S105, the servers' own
    region: str = "us-east-1"
    _endpoint_url: str | None = None

    @property
    def endpoint_url(self) -> str:
        """Where the server listens.

        Raises:
            EmulatorError: The server is not started.
        """
        if self._endpoint_url is None:
            raise EmulatorError(f"{self.name} is not started: call start() or use it in a with block")
        return self._endpoint_url

    @abc.abstractmethod
    def install(self, report: Callable[[str], None] | None = None) -> None:
        """Do what is needed once on this machine; nothing when it is done already.

        Args:
            report: Is told in one sentence what takes its time.

        Raises:
            EmulatorError: The installation failed; the message ends with its output.
            MissingDependency: A package is missing from our own environment.
        """

    @abc.abstractmethod
    def start(self) -> Self:
        """Install if needed, start the server and wait until it answers; nothing when it is started.

        Raises:
            EmulatorError: The server ended or did not answer in time; the message ends with its log.
            MissingDependency: A package is missing from our own environment.
        """

    @abc.abstractmethod
    def stop(self) -> None:
        """End the server and forget its data; nothing when it is stopped."""

    def environment(self) -> dict[str, str]:
        """The environment variables that point an AWS SDK to this server.

        Raises:
            EmulatorError: The server is not started.
        """
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,  # what botocore reads
        }

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class ProcessEmulator(Emulator):
    """A server that is a process of its own, with a temporary folder for its data and its log.

    A subclass says how the process is started (`_command`, `_process_environment`) and when it is ready
    (`READY_LOG`, `_is_ready`).

    Args:
        port: The port of the S3 endpoint; a free one if not given.
    """

    READY_LOG: ClassVar[str]
    """What the server logs once it listens; without it an answer may be someone else's on that port."""
    PORT_COUNT: ClassVar[int] = 1
    GRPC_OFFSET: ClassVar[int] = 0
    """Distance of a second port that the server takes beside each of its ports; 0 if it takes none."""
    START_TIMEOUT: ClassVar[float] = 60.0
    STOP_GRACE: ClassVar[float] = 5.0
    """Seconds between SIGTERM and SIGKILL; with 0 the server is killed at once."""

    def __init__(self, *, port: int | None = None) -> None:
        self._fixed_port = port
        self._ports: list[int] = []
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def start(self) -> Self:
        if self._process is not None:
            return self
        self.install()
        tries = START_TRIES if self._fixed_port is None else 1
        for left in reversed(range(tries)):
            try:
                self._start_once()
                break
            except PortTakenError:
                if not left:
                    raise
        return self

    def stop(self) -> None:
        atexit.unregister(self._stop_at_exit)
        process, self._process = self._process, None
        if process is not None:
            end_process_group(process, grace=self.STOP_GRACE)
        self._remove_leftovers()
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        self._ports = []
        self._endpoint_url = None

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until the server ends by itself, which it should not do before `stop`.

        Returns:
            Its exit code, or None if it still runs after `timeout` seconds.

        Raises:
            EmulatorError: The server is not started.
        """
        if self._process is None:
            raise EmulatorError(f"{self.name} is not started: there is nothing to wait for")
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    @property
    def folder(self) -> Path:
        """The temporary folder of the running server.

        Raises:
            EmulatorError: The server is not started.
        """
        if self._folder is None:
            raise EmulatorError(f"{self.name} is not started: it has no folder yet")
        return self._folder

    @abc.abstractmethod
    def _command(self) -> list[str]:
        """The command line; `folder` and `_ports` are set, and the process runs in `folder`."""

    def _process_environment(self) -> dict[str, str]:
        """The environment variables of the process."""
        return clean_environment()

    @abc.abstractmethod
    def _is_ready(self) -> bool:
        """Whether the server does its work, asked again and again once `READY_LOG` is in its log."""

    def _remove_leftovers(self) -> None:
        """Remove what the ended process left outside its folder; `_ports` are still set."""

    def _start_once(self) -> None:
        self._owner = os.getpid()
        atexit.register(self._stop_at_exit)
        try:
            self._folder = Path(tempfile.mkdtemp(prefix=f"lakery-{self.name}-{os.getpid()}-"))
            self._ports = self._choose_ports()
            self._process = self._spawn()
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        self._endpoint_url = f"http://{HOST}:{self._ports[0]}"

    def _choose_ports(self) -> list[int]:
        if self._fixed_port is None:
            return free_ports(self.PORT_COUNT, offset=self.GRPC_OFFSET)
        if is_answering(self._fixed_port):
            raise PortTakenError(f"{self.name} cannot start: something already listens on port {self._fixed_port}")
        return [self._fixed_port, *free_ports(self.PORT_COUNT - 1, offset=self.GRPC_OFFSET)]

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = self._command()
        with self._log_path.open("wb") as log:
            try:
                return subprocess.Popen(  # noqa: S603, the command is the subclass' own
                    command,
                    cwd=self.folder,
                    env=self._process_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # stop() ends its children too, and Ctrl-C none of them
                )
            except OSError as error:
                raise EmulatorError(f"{self.name} cannot start: {error}") from error

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + self.START_TIMEOUT
        while True:
            code = self._process.poll()
            log = self._read_log()
            if PORT_TAKEN.search(log):
                raise PortTakenError(self._failure("found a port taken", log))
            if code is not None:
                raise EmulatorError(self._failure(f"ended with exit code {code} before it was ready", log))
            if self.READY_LOG in log and self._is_ready():
                return
            if time.monotonic() > deadline:
                raise EmulatorError(self._failure(f"was not ready within {self.START_TIMEOUT:g} seconds", log))
            time.sleep(POLL_INTERVAL)

    @property
    def _log_path(self) -> Path:
        return self.folder / "log"

    def _read_log(self) -> str:
        return self._log_path.read_text("utf-8", errors="replace")

    def _failure(self, what: str, log: str) -> str:
        return f"{self.name} {what}. The end of its log:\n{tail(log)}"

    def _stop_at_exit(self) -> None:
        # A forked child inherits our exit handlers, but the server is not its own to stop.
        if os.getpid() == self._owner:
            self.stop()


def clean_environment(*prefixes: str) -> dict[str, str]:
    """Our environment without what would change another Python, AWS settings, and the given prefixes."""
    unwanted = ("PYTHON", "VIRTUAL_ENV", "AWS_", *prefixes)
    return {key: value for key, value in os.environ.items() if not key.upper().startswith(unwanted)}


def tail(text: str) -> str:
    """The last lines of a log, for an error message."""
    return "\n".join(text.rstrip().splitlines()[-LOG_TAIL_LINES:]) or "(empty)"


def free_ports(count: int, *, offset: int = 0) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, each with its neighbour at `offset`.

    Raises:
        EmulatorError: There are not enough of them.
    """
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        if len(found) == count:
            break
        if can_bind(port) and (not offset or can_bind(port + offset)):
            found.append(port)
    if len(found) < count:
        raise EmulatorError(f"{HOST} has no {count} free ports between {PORTS.start} and {PORTS.stop - 1}")
    return found


def can_bind(port: int) -> bool:
    """Whether the port is free now."""
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def is_answering(port: int) -> bool:
    """Whether anyone listens on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def http_status(url: str, *, method: str = "GET", data: bytes | None = None, timeout: float = 5.0) -> int | None:
    """The status of one small request, or None if nobody answered."""
    request = urllib.request.Request(url, data=data, method=method)  # noqa: S310, always our own server
    try:
        with _opener.open(request, timeout=timeout) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return None


def end_process_group(process: subprocess.Popen[bytes], *, grace: float) -> None:
    """End a process and all that it started: SIGTERM, `grace` seconds, SIGKILL."""
    if grace and process.poll() is None:
        _signal_group(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    _kill_group(process)
    process.wait()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        _signal_group(process, signal.SIGKILL)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    if sys.platform == "win32":
        process.terminate()
    else:
        # The group outlives its leader as long as a child is left; when all are gone there is nothing to do.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
