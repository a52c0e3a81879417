"""The servers that `lakery-cloud emulators up` has started: at most one of each kind, each with a lock and a state file.

A server's keeper holds the lock. The system releases it when the keeper ends in any way. So a stale state file is never
taken for a running server, and a reused process id is never signalled.
"""

import contextlib
import fcntl
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

from lakery_cloud.emulators.system import EmulatorError, file_lock

STOP_TIMEOUT = 15.0
"""Seconds that a keeper has to stop its server before it is killed."""
LOCK_TIMEOUT = 1.0
"""Seconds to wait for a lock, since a check whether it is locked takes it for a moment."""
POLL_INTERVAL = 0.02


@dataclass(frozen=True, slots=True)
class Running:
    """A running server.

    Attributes:
        name: Its name in `EMULATORS`.
        pid: Process id of its keeper.
        endpoint_url: The URL that it listens on.
        buckets: The buckets that were requested.
        log: Path of its log; None if it has none.
        background: Whether it is to outlive the command that started it.
        since: Start time in ISO 8601.
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
        """Read from JSON data."""
        running = cls(**found)
        return replace(running, buckets=tuple(running.buckets))

    def to_dict(self) -> dict[str, object]:
        """Return JSON data."""
        return {**asdict(self), "buckets": list(self.buckets)}


def state_folder() -> Path:
    """Return `$LAKERY_CLOUD_STATE`, or a folder for this machine in the user's state folder."""
    chosen = os.environ.get("LAKERY_CLOUD_STATE")
    return Path(chosen).absolute() if chosen else platformdirs.user_state_path("lakery-cloud") / socket.gethostname()


@contextlib.contextmanager
def keep(name: str) -> Iterator[None]:
    """Hold the lock of a server for the duration of the block.

    Raises:
        EmulatorError: Another keeper holds it.
    """
    folder = state_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    deadline = time.monotonic() + LOCK_TIMEOUT
    with (folder / f"{name}.lock").open("a+b") as file:
        while not _lock(file.fileno()):
            if time.monotonic() > deadline:
                raise EmulatorError(f"{name} is already running: stop it with lakery-cloud emulators down {name}")
            time.sleep(POLL_INTERVAL)
        state = folder / f"{name}.json"
        state.unlink(missing_ok=True)  # left by a keeper that was killed
        try:
            yield
        finally:
            state.unlink(missing_ok=True)


def write(running: Running) -> None:
    """Write a server's state file atomically."""
    folder = state_folder()
    handle, part = tempfile.mkstemp(dir=folder, prefix=".new-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(running.to_dict(), file)
    os.replace(part, folder / f"{running.name}.json")


def add_buckets(name: str, buckets: Iterable[str]) -> Running | None:
    """Add buckets to a server's state file; returns None if the server has ended."""
    with file_lock(state_folder() / "changes.lock"):
        running = find(name)
        if running is not None:
            running = replace(running, buckets=tuple(dict.fromkeys((*running.buckets, *buckets))))
            write(running)
        return running


def find(name: str) -> Running | None:
    """Return the server of this name if it is running and ready."""
    folder = state_folder()
    if not _is_locked(folder / f"{name}.lock"):
        return None
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
        return Running.of(json.loads((folder / f"{name}.json").read_text("utf-8")))
    return None


def end(running: Running) -> bool:
    """Stop a server and wait until it has ended.

    Returns:
        Whether it was running.

    Raises:
        EmulatorError: It does not end.
    """
    lock = state_folder() / f"{running.name}.lock"
    # The holder of the lock writes the state file, so while both exist the process id is the holder's.
    found = find(running.name)
    if found is None or found.pid != running.pid:
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, number)
        deadline = time.monotonic() + STOP_TIMEOUT
        while time.monotonic() < deadline:
            if not _is_locked(lock):
                return True
            time.sleep(POLL_INTERVAL)
    raise EmulatorError(f"{running.name} does not stop: its process {running.pid} is still running")


def _is_locked(path: Path) -> bool:
    """Whether a process holds the lock."""
    try:
        with path.open("r+b") as file:
            return not _lock(file.fileno())
    except FileNotFoundError:
        return False


def _lock(descriptor: int) -> bool:
    """Try to lock a file until it is closed, and return whether that succeeded."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
