"""Which servers `lakery-cloud emulators up` keeps running: one of each kind, known by a lock that its keeper holds.

A lock is let go of by the system however its holder ends, so what is noted here is never taken for alive when it isn't,
and a process number that was given to somebody else is never signalled.
"""

import contextlib
import json
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import platformdirs

from lakery_cloud.emulators.install import file_lock
from lakery_cloud.emulators.system import EmulatorError

STOP_TIMEOUT = 15.0
"""Seconds that a server's keeper gets to stop it before it is killed."""
LOCK_PATIENCE = 1.0
"""Seconds to try for a lock, since whoever looks whether it is held holds it for a moment."""
POLL_INTERVAL = 0.02


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs.

    Attributes:
        name: Its name in `EMULATORS`.
        pid: Number of the process that keeps it.
        endpoint_url: Where it listens.
        buckets: The buckets that were asked for.
        log: Its log; None if it has none.
        background: Whether it was started to outlive the command.
        since: When it was started, in ISO 8601.
    """

    name: str
    pid: int
    endpoint_url: str
    buckets: tuple[str, ...]
    log: str | None
    background: bool
    since: str

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Running":
        """From its JSON."""
        running = cls(**found)
        return replace(running, buckets=tuple(running.buckets))

    def to_dict(self) -> dict[str, object]:
        """As JSON has it."""
        return {**asdict(self), "buckets": list(self.buckets)}


def state_folder() -> Path:
    """`$LAKERY_CLOUD_STATE`, or a folder for this machine in the user's state folder."""
    chosen = os.environ.get("LAKERY_CLOUD_STATE")
    return Path(chosen).absolute() if chosen else platformdirs.user_state_path("lakery-cloud") / socket.gethostname()


@contextlib.contextmanager
def keep(name: str) -> Iterator[None]:
    """Be the one who keeps the server of this name, as long as the block lasts.

    Raises:
        EmulatorError: Somebody else is.
    """
    folder = state_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    deadline = time.monotonic() + LOCK_PATIENCE
    with (folder / f"{name}.lock").open("a+b") as file:
        while not _lock(file.fileno()):
            if time.monotonic() > deadline:
                raise EmulatorError(f"{name} runs already: lakery-cloud emulators down {name} ends it")
            time.sleep(POLL_INTERVAL)
        note = folder / f"{name}.json"
        note.unlink(missing_ok=True)  # of a keeper that was killed
        try:
            yield
        finally:
            note.unlink(missing_ok=True)


def write(running: Running) -> None:
    """Note a server; the note appears whole."""
    folder = state_folder()
    handle, part = tempfile.mkstemp(dir=folder, prefix=".new-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(running.to_dict(), file)
    os.replace(part, folder / f"{running.name}.json")


def add_buckets(name: str, buckets: Iterable[str]) -> Running | None:
    """Note buckets that were made on a server; None if it has ended meanwhile."""
    with file_lock(state_folder() / "changes.lock"):
        running = find(name)
        if running is not None:
            running = replace(running, buckets=tuple(dict.fromkeys((*running.buckets, *buckets))))
            write(running)
        return running


def find(name: str) -> Running | None:
    """The server of this name, if it runs and is ready."""
    folder = state_folder()
    if not _is_held(folder / f"{name}.lock"):
        return None
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
        return Running.of(json.loads((folder / f"{name}.json").read_text("utf-8")))
    return None


def end(running: Running) -> bool:
    """End a server, and wait until it is gone.

    Returns:
        Whether it was there to be ended.

    Raises:
        EmulatorError: It does not end.
    """
    lock = state_folder() / f"{running.name}.lock"
    # Whoever holds the lock wrote the note, so the number is that of the holder as long as both are there.
    found = find(running.name)
    if found is None or found.pid != running.pid:
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, number)
        deadline = time.monotonic() + STOP_TIMEOUT
        while time.monotonic() < deadline:
            if not _is_held(lock):
                return True
            time.sleep(POLL_INTERVAL)
    raise EmulatorError(f"{running.name} does not end: process {running.pid} is still there")


def _is_held(path: Path) -> bool:
    """Whether a process holds the lock."""
    try:
        with path.open("r+b") as file:
            return not _lock(file.fileno())
    except FileNotFoundError:
        return False


def _lock(descriptor: int) -> bool:
    """Lock a file until it is closed; whether nobody else had."""
    import fcntl  # not on Windows, where no command runs servers

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
