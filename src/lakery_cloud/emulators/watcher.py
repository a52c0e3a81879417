"""A process of its own that ends a server and removes its folder when whoever started the server is gone.

However that process ended, also by SIGKILL, the pipe to us closes then. It runs without our package, so it starts in
milliseconds: `python -I -S watcher.py`.
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
"""What a process sends that has stopped the server itself."""


def main() -> None:
    """Read what to watch over, then wait for the end of the pipe."""
    order = json.loads(sys.stdin.buffer.readline() or b"null")
    if order is None:  # whoever started us was gone before it had started a server
        return
    born = birth(order["pid"])
    if sys.stdin.buffer.readline() == DONE:
        return
    # A number that another process has got meanwhile is not ours to kill.
    if born is not None and birth(order["pid"]) == born:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(order["pid"], signal.SIGKILL)
    shutil.rmtree(order["folder"], ignore_errors=True)
    remove_all(order["leftovers"])


def birth(pid: int) -> str | None:
    """When a process was started, in whatever way the system tells it; None if there is no such process."""
    with contextlib.suppress(OSError):
        # The command's name may hold spaces and brackets; the start is the 20th field after it (proc_pid_stat(5)).
        return Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()[19]
    with contextlib.suppress(OSError):
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603, our own
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
