"""The keeper: a process that runs one server for `lakery-cloud emulators up`.

`python -m lakery_cloud.emulators.background.keeper` reads one line of JSON from standard input, starts the server, and
writes one line of JSON to standard output. It stops the server on SIGTERM, and when standard input ends without `DETACH`.
It is internal to the command.
"""

import io
import json
import os
import select
import signal
import sys
from datetime import UTC, datetime
from typing import Any

from lakery_cloud.emulators import EMULATORS, Emulator
from lakery_cloud.emulators.background.state import Running, keep, state_folder, write
from lakery_cloud.emulators.server import ProcessEmulator
from lakery_cloud.emulators.system import EmulatorError
from lakery_cloud.errors import LakeryCloudError

DETACH = b"detach\n"
"""Tells the keeper to run until SIGTERM, whatever happens to its parent."""
POLL_INTERVAL = 1.0
"""Seconds between two checks whether the server is running."""


def main() -> int:
    """Run a server until it is stopped."""
    signal.signal(signal.SIGTERM, _exit)
    # Unbuffered, so that input after this line stays in the pipe.
    order = json.loads(io.FileIO(sys.stdin.fileno(), closefd=False).readline())
    try:
        with keep(order["name"]), EMULATORS[order["name"]](port=order["port"]) as server:
            for bucket in order["buckets"]:
                server.make_bucket(bucket)
            running = _described(server, order)
            write(running)
            _send({"running": running.to_dict()})
            os.chdir(state_folder())  # do not keep the current folder in use
            _wait(server)
    except LakeryCloudError as error:
        _send({"error": type(error).__name__, "message": str(error)})
        return 1
    return 0


def _described(server: Emulator, order: dict[str, Any]) -> Running:
    return Running(
        name=server.name,
        pid=os.getpid(),
        endpoint_url=server.endpoint_url,
        buckets=tuple(order["buckets"]),
        log=str(server.log_path) if isinstance(server, ProcessEmulator) else None,
        background=order["background"],
        since=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _wait(server: Emulator) -> None:
    """Wait until the parent process ends.

    Raises:
        EmulatorError: The server has ended by itself.
    """
    parent = [sys.stdin.fileno()]
    while server.is_running:
        readable, _, _ = select.select(parent, [], [], POLL_INTERVAL)
        if readable:
            if os.read(sys.stdin.fileno(), len(DETACH)) != DETACH:
                return
            parent = []
            _release_output()
    log = f". The end of its log:\n{server.log_tail()}" if isinstance(server, ProcessEmulator) else ""
    raise EmulatorError(f"{server.name} has ended by itself{log}")


def _release_output() -> None:
    """Close the parent's output, for which another program may be waiting."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (sys.stdout.fileno(), sys.stderr.fileno()):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _exit(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal must not interrupt the clean-up
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
