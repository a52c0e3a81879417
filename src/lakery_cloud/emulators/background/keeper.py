"""The process that keeps one server for `lakery-cloud emulators up`: `python -m lakery_cloud.emulators.background.keeper`.

Its orders are a line of JSON on standard input, its answer is one on standard output. It stops the server when standard
input ends, unless it was told to go on alone, and on SIGTERM. Nothing of it is for other programs.
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

DETACH = b"go on alone\n"
LOOK_INTERVAL = 1.0
"""Seconds between two looks whether the server still runs."""


def main() -> int:
    """Keep a server until it is no longer wanted."""
    signal.signal(signal.SIGTERM, _leave)
    # Unbuffered: what comes after the line stays in the pipe.
    order = json.loads(io.FileIO(sys.stdin.fileno(), closefd=False).readline())
    try:
        with keep(order["name"]), EMULATORS[order["name"]](port=order["port"]) as server:
            for bucket in order["buckets"]:
                server.make_bucket(bucket)
            running = _described(server, order)
            write(running)
            _say({"running": running.to_dict()})
            os.chdir(state_folder())  # the folder that we were started in may be removed
            _wait(server)
    except LakeryCloudError as error:
        _say({"error": type(error).__name__, "message": str(error)})
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
    """Return when whoever started us is gone.

    Raises:
        EmulatorError: The server has ended by itself.
    """
    lifeline = [sys.stdin.fileno()]
    while server.is_running:
        readable, _, _ = select.select(lifeline, [], [], LOOK_INTERVAL)
        if readable:
            if os.read(sys.stdin.fileno(), len(DETACH)) != DETACH:
                return
            lifeline = []
            _let_go_of_output()
    log = f". The end of its log:\n{server.log_tail()}" if isinstance(server, ProcessEmulator) else ""
    raise EmulatorError(f"{server.name} has ended by itself{log}")


def _let_go_of_output() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (sys.stdout.fileno(), sys.stderr.fileno()):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _leave(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one is enough: stopping must not be interrupted
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
