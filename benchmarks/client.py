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
from contextlib import nullcontext
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.peers.base import Peer, Target, Unavailable
from benchmarks.peers.catalog import PEERS
from benchmarks.samples import Sampler
from benchmarks.workloads import BY_NAME, Work, Workload

SELF, CHILDREN = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN

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
    parser.add_argument("--size", type=int, help="bytes of one blob or stream, instead of the workload's own")
    parser.add_argument("--samples", action="store_true", help="say which part of the program used the CPU time")
    parser.add_argument("--folder", type=Path, required=True, help="a folder for files, with the content to write")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(options))


async def serve(options: argparse.Namespace) -> None:
    """Open the client, and work until standard input ends."""
    entry = next(entry for entry in PEERS if (entry.api, entry.name) == (options.api, options.peer))
    workload = BY_NAME[options.workload]
    workload = replace(workload, size=options.size or workload.size)
    target = Target(options.url, workload.bucket, options.certificate, workload.concurrency, workload.verify)
    try:
        peer = entry.load()(target)
        await peer.open()
    except (Unavailable, ImportError) as error:
        say(unavailable=str(error))
        return
    try:
        work = Work(workload, peer, label=entry.name, folder=options.folder)
        await work.warm_up()
    except Exception as error:  # noqa: BLE001, any error of the client is its result
        say(unavailable=_message_of(error))
    else:
        say(ready=True, version=metadata.version(entry.package), does=does(peer, workload))
        for line in sys.stdin:  # blocks the event loop, which is idle between turns
            of = CHILDREN if workload.kind == "start" else SELF
            with Sampler() if options.samples else nullcontext() as sampler:
                figures = await measured(work, int(line.split()[1]), of=of)
            say(**figures, **({"samples": sampler.counts} if sampler is not None else {}))
    await peer.close()


async def measured(work: Work, number: int, *, of: int) -> dict[str, Any]:
    """Do one turn, and return its figures, of this process or of the processes that it starts."""
    forget_peak()
    before, started = cpu(of), time.perf_counter()
    try:
        operations = await work.turn(number)
    except Exception as error:  # noqa: BLE001, any error of the client is its result
        return {"error": _message_of(error)}
    seconds = time.perf_counter() - started
    return {"operations": operations, "seconds": seconds, "cpu": cpu(of) - before, "peak": peak(of)}


def does(peer: Peer, workload: Workload) -> str:
    """Describe what the client does for the workload."""
    files = peer.files or f"read in a thread; {peer.streams}"
    writes = {"put": peer.sends, "hit": peer.sends, "write": peer.streams, "file": files}
    said = {**writes, "get": peer.gets, "read": peer.reads}
    if workload.kind == "start":
        return peer.starts if workload.stores else ""
    if workload.kind == "file":
        return files
    hashes_itself = peer.verifies if workload.reads else peer.hashes
    if workload.reads and (hashes_itself or not workload.verify):
        return said[workload.kind] + ("; compares SHA-256" if workload.verify else "")
    return said[workload.kind] + ("" if hashes_itself else "; SHA-256 in line")


def cpu(of: int) -> float:
    """Return the CPU seconds of all threads of this process, or of the ended processes that it has started."""
    used = resource.getrusage(of)
    return used.ru_utime + used.ru_stime


def forget_peak() -> None:
    """Reset the memory peak to the current use (proc(5), "clear_refs")."""
    Path("/proc/self/clear_refs").write_text("5")


def peak(of: int) -> int:
    """Return the memory peak of this process in bytes, or of the largest process that it has started."""
    if of == CHILDREN:
        return resource.getrusage(of).ru_maxrss * 1024
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
