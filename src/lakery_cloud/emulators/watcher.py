"""The watcher: a process that ends a server and removes its folder when the process that started the server ends.

When that process ends, even by SIGKILL, its pipe to the watcher closes. The watcher imports nothing of this package, so it
starts in milliseconds: `python -I -S watcher.py`.
"""

import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

DONE = b"done\n"
"""Sent to the watcher when the server is already stopped."""


def main() -> None:
    """Read from standard input which server to watch, then wait for the end of input."""
    order = json.loads(sys.stdin.buffer.readline() or b"null")
    if order is None:  # the starting process ended before it started the server
        return
    started = start_time(order["pid"])
    if sys.stdin.buffer.readline() == DONE:
        return
    # The start time tells the server from a later process with the same id.
    if started is not None and start_time(order["pid"]) == started:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(order["pid"], signal.SIGKILL)
    shutil.rmtree(order["folder"], ignore_errors=True)
    remove_all(order["leftovers"])


def start_time(pid: int) -> str | None:
    """Return when a process was started, in the system's format; None if there is no such process."""
    with contextlib.suppress(OSError):
        # The command name may contain spaces and brackets; the start time is the 20th field after it (proc_pid_stat(5)).
        return Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()[19]
    with contextlib.suppress(OSError):
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603, our own command
        return done.stdout.strip() or None
    return None


def remove_all(patterns: list[str]) -> None:
    """Remove files by glob patterns."""
    for pattern in patterns:
        for path in glob.glob(pattern):
            with contextlib.suppress(OSError):
                os.unlink(path)


if __name__ == "__main__":
    main()
