"""One client in a process of its own: it does a workload once per command, and reports time, CPU and memory.

It reads lines `turn N` and writes lines of JSON. It runs in the client's environment, and needs only the client's library.
"""

import argparse
import asyncio
import json
import resource
import sys
import time
import traceback
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.peers.base import Peer, Target, Unavailable
from benchmarks.peers.catalog import PEERS
from benchmarks.workloads import BY_NAME, Work, Workload

try:
    from uvloop import new_event_loop
except ImportError:
    from asyncio import new_event_loop


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.client", description=__doc__)
    parser.add_argument("--api", required=True)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--workload", choices=BY_NAME, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--certificate")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(options))


async def serve(options: argparse.Namespace) -> None:
    """Open the client, and work until standard input ends."""
    entry = next(entry for entry in PEERS if (entry.api, entry.name) == (options.api, options.peer))
    workload = BY_NAME[options.workload]
    target = Target(options.url, workload.bucket, options.certificate, workload.concurrency, workload.verify)
    try:
        peer = entry.load()(target)
        await peer.open()
    except (Unavailable, ImportError) as error:
        say(unavailable=str(error))
        return
    try:
        work = Work(workload, peer, label=entry.name)
        await work.warm_up()
    except Exception as error:  # noqa: BLE001, any error of the client is its result
        say(unavailable=_message_of(error))
    else:
        say(ready=True, version=metadata.version(entry.package), does=does(peer, workload))
        for line in sys.stdin:  # blocks the event loop, which is idle between turns
            say(**await measured(work, int(line.split()[1])))
    await peer.close()


async def measured(work: Work, number: int) -> dict[str, Any]:
    """Do one turn, and return its figures."""
    forget_peak()
    before, started = cpu(), time.perf_counter()
    try:
        operations = await work.turn(number)
    except Exception as error:  # noqa: BLE001, any error of the client is its result
        return {"error": _message_of(error)}
    seconds = time.perf_counter() - started
    return {"operations": operations, "seconds": seconds, "cpu": cpu() - before, "peak": peak()}


def does(peer: Peer, workload: Workload) -> str:
    """Describe what the client does for the workload."""
    said = {"put": peer.sends, "hit": peer.sends, "get": peer.gets, "read": peer.reads, "write": peer.streams}
    hashes_itself = peer.verifies if workload.reads else peer.hashes
    if workload.reads and (hashes_itself or not workload.verify):
        return said[workload.kind] + ("; compares SHA-256" if workload.verify else "")
    return said[workload.kind] + ("" if hashes_itself else "; SHA-256 in line")


def cpu() -> float:
    """Return the CPU seconds of all threads of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def forget_peak() -> None:
    """Reset the memory peak to the current use (proc(5), "clear_refs")."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Return the memory peak of this process in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def say(**what: Any) -> None:
    """Send a line to the harness."""
    print(json.dumps(what), flush=True)


def _message_of(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}"[:300]


if __name__ == "__main__":
    main()
