"""Starts servers that a process of their own keeps: as long as we run, or until `down`."""

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
    """A server that is being started by a keeper, which stops it should we end in whatever way.

    Args:
        name: Its name in `EMULATORS`. It is installed already, or the start takes its time without a word.
        port: The port to listen on; a free one if None.
        buckets: Buckets to make.
        background: Whether `detach` will be called.
    """

    def __init__(
        self, name: str, *, port: int | None = None, buckets: Sequence[str] = (), background: bool = False
    ) -> None:
        self.name = name
        # A session of its own: Ctrl-C in the terminal is for us, who then stop it in order.
        self._keeper = subprocess.Popen(
            [sys.executable, "-P", "-m", "lakery_cloud.emulators.background.keeper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._send(json.dumps({"name": name, "port": port, "buckets": buckets, "background": background}) + "\n")

    def ready(self) -> Running:
        """Wait until it is ready.

        Raises:
            EmulatorError, MissingDependency: See `Emulator.start` and `Emulator.make_bucket`.
        """
        return Running.of(self._answer()["running"])

    def ended(self) -> None:
        """Return when somebody else has ended it; wait until then.

        Raises:
            EmulatorError: It ended by itself; the message has the end of its log.
        """
        with contextlib.suppress(EndedSilently):
            self._answer()

    def fileno(self) -> int:
        """What becomes readable when it has ended, once it was ready."""
        assert self._keeper.stdout is not None
        return self._keeper.stdout.fileno()

    def detach(self) -> None:
        """Leave it running when we end."""
        self._send(DETACH.decode())
        self._close()
        self._keeper.returncode = 0  # it is no longer ours to wait for

    def stop(self) -> None:
        """Stop it, and wait until it is gone; nothing if it is."""
        if self._keeper.returncode is None:
            self._keeper.terminate()
            try:
                self._keeper.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._keeper.kill()  # its watcher ends the server
                self._keeper.wait()
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answer(self) -> dict[str, Any]:
        assert self._keeper.stdout is not None
        line = self._keeper.stdout.readline()
        if not line:
            code = self._keeper.wait()
            if code:
                raise EmulatorError(f"the keeper of {self.name} failed with exit code {code}")
            raise EndedSilently(f"{self.name} was ended from elsewhere")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            kind = getattr(errors, answer["error"], EmulatorError)
            raise kind(answer["message"])
        return answer

    def _send(self, line: str) -> None:
        assert self._keeper.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # what it says, or its exit code, tells why
            self._keeper.stdin.write(line.encode())
            self._keeper.stdin.flush()

    def _close(self) -> None:
        for pipe in (self._keeper.stdin, self._keeper.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class EndedSilently(EmulatorError):
    """A keeper ended without a word, as it does when it is told to."""
