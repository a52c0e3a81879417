"""A headless Chromium, driven by the DevTools protocol over a pipe, without another package. It checks the built site."""

import fcntl
import json
import os
import select
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Without its sandbox, it runs as root and in containers. It shows our own pages alone.
OPTIONS = (
    *("--headless", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe"),
    *("--no-sandbox", "--disable-dev-shm-usage"),
)
TIMEOUT = 60.0
"""Seconds after which Chromium hangs."""


def find_chromium() -> str | None:
    """Return the path of an installed Chromium or Chrome, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab."""

    def __init__(self, commands: int, events: int) -> None:
        self._commands, self._events = commands, events
        self._received = b""
        self._number = 0
        self._session: str | None = None

    @classmethod
    @contextmanager
    def open(cls, chromium: str) -> Iterator[Self]:
        """Start Chromium with a new profile, and end it afterwards."""
        read_commands, commands = _pipe()
        events, write_events = _pipe()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            options = [*OPTIONS, f"--user-data-dir={profile}"]
            nothing = (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)
            # Chromium reads commands from descriptor 3 and writes to 4.
            actions = [(os.POSIX_SPAWN_DUP2, read_commands, 3), (os.POSIX_SPAWN_DUP2, write_events, 4), nothing]
            process = os.posix_spawn(chromium, [chromium, *options], os.environ, file_actions=actions)
            os.close(read_commands)
            os.close(write_events)
            try:
                page = cls(commands, events)
                target = page.call("Target.createTarget", url="about:blank")["targetId"]
                page._session = page.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
                yield page
            finally:
                with suppress(OSError):
                    page._session = None
                    page.call("Browser.close")
                os.close(commands)  # Chromium ends when it has no one to talk to
                os.close(events)
                os.waitpid(process, 0)

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol, and return its result.

        Raises:
            ConnectionError: Chromium has ended, or refused the call.
            TimeoutError: Chromium does not answer.
        """
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            pass
        if "error" in answer:
            raise ConnectionError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            if not select.select([self._events], [], [], TIMEOUT)[0]:
                raise TimeoutError("Chromium does not answer")
            if not (chunk := os.read(self._events, 65536)):
                raise ConnectionError("Chromium has ended")
            self._received += chunk
        message, _, self._received = self._received.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def resize(self, width: int) -> None:
        """Show the page in a window of this width, narrow ones as a phone does."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def go(self, url: str) -> None:
        """Open a URL, and wait until it is loaded."""
        self.evaluate("window.isLeft = true")
        self.call("Page.navigate", url=url)
        self.wait_for("!window.isLeft && document.readyState === 'complete'")

    def wait_for(self, expression: str, *, timeout: float = TIMEOUT) -> Any:
        """Wait until an expression is true, and return its value; the last one after the time-out."""
        end = time.monotonic() + timeout
        while not (value := self.evaluate(expression)) and time.monotonic() < end:
            time.sleep(0.02)
        return value


def _pipe() -> tuple[int, int]:
    """The ends of a pipe, whose numbers are not those that Chromium uses."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return moved[0], moved[1]
