"""Starts servers in keeper processes. A server runs as long as this process, or until `emulators down`."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Self

from lakery_cloud import errors
from lakery_cloud.emulators.background.keeper import DETACH
from lakery_cloud.emulators.background.state import STOP_TIMEOUT, Running
from lakery_cloud.emulators.system import EmulatorError


class Launch:
    """A server that starts in a keeper process, which stops the server when this process ends in any way.

    Args:
        name: Its name in `EMULATORS`. Install it first; otherwise the start is slow and shows no progress.
        port: The port to listen on; a free one if None.
        buckets: Buckets to create.
        background: Whether you will call `detach`.
    """

    def __init__(
        self, name: str, *, port: int | None = None, buckets: Sequence[str] = (), background: bool = False
    ) -> None:
        self.name = name
        # In a new session, Ctrl-C reaches only this process, which then stops the keeper in order.
        self._keeper = subprocess.Popen(
            [sys.executable, "-P", "-m", "lakery_cloud.emulators.background.keeper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._send(json.dumps({"name": name, "port": port, "buckets": buckets, "background": background}) + "\n")

    def ready(self) -> Running:
        """Wait until the server is ready.

        Raises:
            EmulatorError, MissingDependency: See `Emulator.start` and `Emulator.make_bucket`.
        """
        return Running.of(self._receive()["running"])

    def wait(self) -> None:
        """Wait until `emulators down` stops the server.

        Raises:
            EmulatorError: The server ended by itself; the message has the end of its log.
        """
        with contextlib.suppress(StoppedElsewhere):
            self._receive()

    def fileno(self) -> int:
        """Return a file descriptor that becomes readable when the server, once ready, has ended."""
        assert self._keeper.stdout is not None
        return self._keeper.stdout.fileno()

    def detach(self) -> None:
        """Leave the server running when this process ends."""
        self._send(DETACH.decode())
        self._close()
        self._keeper.returncode = 0  # so that stop() and Popen leave it running

    def stop(self) -> None:
        """Stop the server unless it has ended, and wait for its end."""
        if self._keeper.returncode is None:
            self._keeper.terminate()
            try:
                self._keeper.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._keeper.kill()  # the watcher then ends the server
                self._keeper.wait()
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _receive(self) -> dict[str, Any]:
        assert self._keeper.stdout is not None
        line = self._keeper.stdout.readline()
        if not line:
            code = self._keeper.wait()
            if code:
                raise EmulatorError(f"the keeper of {self.name} failed with exit code {code}")
            raise StoppedElsewhere(f"{self.name} was stopped by another process")
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            kind = getattr(errors, message["error"], EmulatorError)
            raise kind(message["message"])
        return message

    def _send(self, line: str) -> None:
        assert self._keeper.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the keeper's message or exit code has the reason
            self._keeper.stdin.write(line.encode())
            self._keeper.stdin.flush()

    def _close(self) -> None:
        for pipe in (self._keeper.stdin, self._keeper.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class StoppedElsewhere(EmulatorError):
    """A keeper ended without a message, which means that another process stopped it."""
