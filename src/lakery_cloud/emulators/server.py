"""Starts and stops local servers that run in a process of their own.

A stopped server leaves no process and no file behind, even if the process that started it is killed.
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
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Self

from lakery_cloud.emulators import watcher
from lakery_cloud.emulators.emulator import Emulator
from lakery_cloud.emulators.install import Environment, Installation
from lakery_cloud.emulators.system import (
    HOST,
    EmulatorError,
    clean_environment,
    end_process_group,
    free_ports,
    is_answering,
    tail,
)

START_TRIES = 3
POLL_INTERVAL = 0.05
PORT_TAKEN = re.compile(r"address already in use|:\d+ is already in use", re.IGNORECASE)


class PortTakenError(EmulatorError):
    """A port was taken between its choice and the start of the server."""


class ProcessEmulator(Emulator):
    """A server in a process of its own, with a temporary folder for its data and log.

    A subclass defines how to start the process (`_command`, `_process_environment`) and when it is ready (`READY_LOG`,
    `_is_ready`).

    Args:
        port: The port to listen on; a free one if not given.
    """

    READY_LOG: ClassVar[str]
    """Text in the log of a server that listens. Without it, a response may come from another server on that port."""
    PORT_COUNT: ClassVar[int] = 1
    GRPC_OFFSET: ClassVar[int] = 0
    """Distance of a second port that the server uses for each of its ports; 0 if there is none."""
    START_TIMEOUT: ClassVar[float] = 60.0
    STOP_GRACE: ClassVar[float] = 5.0
    """Seconds between SIGTERM and SIGKILL; with 0 there is no SIGTERM."""

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
        """Wait until the server ends by itself, which is a failure before `stop`.

        Returns:
            Its exit code, or None if it is still running after `timeout` seconds.

        Raises:
            EmulatorError: The server is not started.
        """
        if self._process is None:
            raise EmulatorError(f"{self.name} is not started: call start() before wait()")
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
            raise EmulatorError(f"{self.name} is not started: it has no folder before start()")
        return self._folder

    @abc.abstractmethod
    def _command(self) -> list[str]:
        """Return the command line. `folder` and `_ports` are set; the process runs in `folder`."""

    def _process_environment(self) -> dict[str, str]:
        """Return the environment variables of the process."""
        return clean_environment()

    @abc.abstractmethod
    def _is_ready(self) -> bool:
        """Whether the server can serve requests; polled once `READY_LOG` is in its log."""

    def _leftovers(self) -> list[str]:
        """Return glob patterns of the files that the process leaves outside its folder. `_ports` are still set."""
        return []

    def _start_once(self) -> None:
        self._owner = os.getpid()
        atexit.register(self._stop_at_exit)
        try:
            self._folder = Path(tempfile.mkdtemp(prefix=f"lakery-{self.name}-{os.getpid()}-"))
            self._ports = self._choose_ports()
            self._watcher = _start_watcher()
            self._process = self._spawn()
            self._instruct_watcher(self._process.pid)
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
                return subprocess.Popen(  # noqa: S603, the subclass' own command
                    command,
                    cwd=self.folder,
                    env=self._process_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # so that stop() ends its children, and Ctrl-C does not reach it
                )
            except OSError as error:
                raise EmulatorError(f"{self.name} cannot start: {error}") from error

    def _instruct_watcher(self, pid: int) -> None:
        """Send the watcher what to clean up if this process is killed."""
        assert self._watcher is not None
        assert self._watcher.stdin is not None
        order = {"pid": pid, "folder": str(self.folder), "leftovers": self._leftovers()}
        self._watcher.stdin.write(json.dumps(order).encode() + b"\n")
        self._watcher.stdin.flush()

    def _dismiss_watcher(self) -> None:
        process, self._watcher = self._watcher, None
        if process is not None:
            with contextlib.suppress(BrokenPipeError):  # the watcher was killed
                process.communicate(watcher.DONE)

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + self.START_TIMEOUT
        while True:
            code = self._process.poll()
            log = self._read_log()
            if PORT_TAKEN.search(log):
                raise PortTakenError(self._failure("cannot listen: a port is taken", log))
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
        # A forked child inherits our exit handlers, but must not stop the server.
        if os.getpid() == self._owner:
            self.stop()


class InstalledEmulator(ProcessEmulator):
    """A server that is installed on first use, by default into a virtual environment.

    Args:
        port: The port to listen on; a free one if not given.
    """

    version: ClassVar[str]

    @property
    def _environment(self) -> Environment:
        return Environment(f"{self.name}-{self.version}")

    @property
    def _installation(self) -> Installation:
        return self._environment

    @property
    def release(self) -> str:
        return self.version

    @property
    def is_installed(self) -> bool:
        return self._installation.is_installed

    def install(self, report: Callable[[str], None] | None = None) -> None:
        self._installation.install(report)


def _start_watcher() -> "subprocess.Popen[bytes]":
    # A new session, so that a signal to our process group, such as a CI time limit, does not end the watcher.
    return subprocess.Popen(  # noqa: S603, our own program
        [sys.executable, "-I", "-S", watcher.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
