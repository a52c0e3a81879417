"""What every local server has in common: start, address, buckets, stop; and how a server process is kept.

Nothing here knows a particular server. Nothing is left behind by a server that was stopped, or whose starter was killed.
"""

import abc
import atexit
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import urlencode

from lakery_cloud.emulators import watcher
from lakery_cloud.emulators.system import (
    HOST,
    EmulatorError,
    clean_environment,
    end_process_group,
    free_ports,
    is_answering,
    tail,
)
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import ConfigError

START_TRIES = 3
POLL_INTERVAL = 0.05
PORT_TAKEN = re.compile(r"address already in use|only one usage of each socket address", re.IGNORECASE)
BUCKET_NAME = re.compile(r"(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*")
"""What all three clouds take: S3 User Guide, "General purpose bucket naming rules"; Cloud Storage, "Bucket names";
Microsoft Learn, "Naming and referencing containers"."""


class PortTakenError(EmulatorError):
    """Someone else took a port between our choice and the server's start."""


class Emulator(abc.ABC):
    """A local server, started with `start` or a `with` block.

    Attributes:
        name: How the server is called in `EMULATORS`, and on the command line.
        api: What it stands for.
        url_scheme: What URLs of storages on it begin with.

    Args:
        port: The port to listen on; a free one if not given.
    """

    name: ClassVar[str]
    api: ClassVar[str]
    url_scheme: ClassVar[str]

    def __init__(self, *, port: int | None = None) -> None:
        self._fixed_port = port
        self._endpoint_url: str | None = None

    @classmethod
    def at(cls, endpoint_url: str) -> Self:
        """A server that runs already and that somebody else stops, to make buckets on it or to point to it."""
        emulator = cls()
        emulator._endpoint_url = endpoint_url
        return emulator

    @property
    def endpoint_url(self) -> str:
        """Where the server listens.

        Raises:
            EmulatorError: The server is not started.
        """
        if self._endpoint_url is None:
            raise EmulatorError(f"{self.name} is not started: call start() or use it in a with block")
        return self._endpoint_url

    @property
    @abc.abstractmethod
    def release(self) -> str:
        """The version of the server."""

    @property
    @abc.abstractmethod
    def is_installed(self) -> bool:
        """Whether `install` has nothing left to do."""

    @property
    @abc.abstractmethod
    def is_running(self) -> bool:
        """Whether it was started here, and has not ended."""

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

    @abc.abstractmethod
    def environment(self) -> dict[str, str]:
        """The environment variables that point the cloud's own SDK to this server.

        Raises:
            EmulatorError: The server is not started.
        """

    @abc.abstractmethod
    def make_bucket(self, bucket: str) -> None:
        """Make a bucket (on Azure a container); nothing when it is there already.

        Raises:
            ConfigError: The clouds take no such name.
            EmulatorError: The server is not started, or refused.
            MissingDependency: The cloud's SDK is not installed.
        """

    @abc.abstractmethod
    def remove_bucket(self, bucket: str) -> None:
        """Remove a bucket with all that is in it; nothing when it is not there.

        Raises:
            EmulatorError: The server is not started, or refused.
            MissingDependency: The cloud's SDK is not installed.
        """

    @abc.abstractmethod
    def storage(self, bucket: str, **options: Any) -> ObjectStorage[Any]:
        """A storage on one of the server's buckets, which has all credentials that it needs.

        Raises:
            EmulatorError: The server is not started.
            MissingDependency: The cloud's SDK is not installed.
        """

    @abc.abstractmethod
    def settings(self, bucket: str) -> Mapping[str, str]:
        """The table of `lakery-cloud.toml` for a storage on one of the server's buckets, credentials included.

        Raises:
            EmulatorError: The server is not started.
        """

    def url(self, bucket: str) -> str:
        """The URL of a storage on one of the server's buckets. It needs the `environment` for its credentials.

        Raises:
            EmulatorError: The server is not started.
        """
        settings = {name: value for name, value in self.settings(bucket).items() if name in self.url_settings}
        return f"{self.url_scheme}://{bucket}{'?' if settings else ''}{urlencode(settings, safe=':/')}"

    url_settings: ClassVar[frozenset[str]] = frozenset({"endpoint_url", "region"})
    """Those of the settings that a URL holds; the others are secret, or stand in the environment."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def check_bucket_name(bucket: str) -> str:
    """The name of a bucket, if all clouds take it.

    Raises:
        ConfigError: They don't.
    """
    if not BUCKET_NAME.fullmatch(bucket):
        raise ConfigError(
            f"a bucket can't be called {bucket!r}: take 3 to 63 lower-case letters, digits, single dashes"
        )
    return bucket


class ProcessEmulator(Emulator):
    """A server that is a process of its own, with a temporary folder for its data and its log.

    A subclass says how the process is started (`_command`, `_process_environment`) and when it is ready
    (`READY_LOG`, `_is_ready`).

    Args:
        port: The port to listen on; a free one if not given.
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
        super().__init__(port=port)
        self._ports: list[int] = []
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._owner = 0

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

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
        watcher.remove_all(self._leftovers())
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        self._dismiss_watcher()
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

    def _leftovers(self) -> list[str]:
        """Patterns of files that the ended process leaves outside its folder; `_ports` are still set."""
        return []

    def _start_once(self) -> None:
        self._owner = os.getpid()
        atexit.register(self._stop_at_exit)
        try:
            self._folder = Path(tempfile.mkdtemp(prefix=f"lakery-{self.name}-{os.getpid()}-"))
            self._ports = self._choose_ports()
            self._watcher = _start_watcher()
            self._process = self._spawn()
            self._watch_over(self._process.pid)
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
        with self.log_path.open("wb") as log:
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

    def _watch_over(self, pid: int) -> None:
        """Tell the watcher what to end should this process be killed."""
        assert self._watcher is not None
        assert self._watcher.stdin is not None
        order = {"pid": pid, "folder": str(self.folder), "leftovers": self._leftovers()}
        self._watcher.stdin.write(json.dumps(order).encode() + b"\n")
        self._watcher.stdin.flush()

    def _dismiss_watcher(self) -> None:
        process, self._watcher = self._watcher, None
        if process is not None:
            with contextlib.suppress(BrokenPipeError):  # somebody has killed it
                process.communicate(watcher.DONE)

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

    def _read_log(self) -> str:
        return self.log_path.read_text("utf-8", errors="replace")

    def _failure(self, what: str, log: str) -> str:
        return f"{self.name} {what}. The end of its log:\n{tail(log)}"

    @property
    def log_path(self) -> Path:
        """The log of the running server.

        Raises:
            EmulatorError: The server is not started.
        """
        return self.folder / "log"

    def log_tail(self) -> str:
        """The last lines of the log of the running server.

        Raises:
            EmulatorError: The server is not started.
        """
        return tail(self._read_log())

    def _stop_at_exit(self) -> None:
        # A forked child inherits our exit handlers, but the server is not its own to stop.
        if os.getpid() == self._owner:
            self.stop()


def _start_watcher() -> "subprocess.Popen[bytes]":
    # A session of its own: what ends our process group, as a CI's time limit does, must leave it to do its work.
    return subprocess.Popen(  # noqa: S603, our own program
        [sys.executable, "-I", "-S", watcher.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
