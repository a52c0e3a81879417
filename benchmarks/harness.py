"""Run workloads: one null server, one process for each client, and turns in rotation: A B C, A B C.

All clients get the same server, the same content and the same machine, at nearly the same time.
"""

import http.client
import json
import os
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self
from urllib.parse import urlsplit

import psutil

from benchmarks.environments import python_of
from benchmarks.null_server import REPOSITORY, Running, null_server
from benchmarks.null_server.counts import PATH as COUNTS
from benchmarks.null_server.objects import PRETENDED
from benchmarks.payload import write_blocks
from benchmarks.peers.catalog import Entry
from benchmarks.plan import CONDITIONS
from benchmarks.samples import NAMES
from benchmarks.workloads import CONTENT, KEPT, KEPT_BLOBS, WRITTEN, Workload, kept_blob, kept_key, warm_key
from lakery_cloud.emulators.system import clean_environment

PATIENCE = 300.0
"""Seconds that a client may take for one turn before it is killed."""


@dataclass
class Result:
    """The turns of a client at one workload.

    Attributes:
        api: Which API.
        condition: Name of the conditions.
        workload: Name of the workload.
        peer: Name of the client.
        version: Version of the client's package.
        does: Description of its work.
        turns: The figures of each turn: operations, their size, seconds, CPU seconds of client and server, memory peak,
            and what the server has seen; or an error.
        unavailable: Why it could not run.
    """

    api: str
    condition: str
    workload: str
    peer: str
    version: str = ""
    does: str = ""
    turns: list[dict[str, Any]] = field(default_factory=list)
    unavailable: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the result as JSON data."""
        return asdict(self)


class Admin:
    """Requests of the harness to a null server. Each server also answers S3 requests."""

    def __init__(self, server: Running) -> None:
        parts = urlsplit(server.url)
        assert parts.hostname is not None
        if server.certificate is None:
            self._connection = http.client.HTTPConnection(parts.hostname, parts.port)
        else:
            trusted = ssl.create_default_context(cafile=str(server.certificate))
            self._connection = http.client.HTTPSConnection(parts.hostname, parts.port, context=trusted)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def fill(self, workload: Workload) -> None:
        """Create the buckets, and the objects that the workload reads."""
        for bucket in (WRITTEN, KEPT):
            self._send("PUT", f"/{bucket}")
        if workload.kind == "get":
            for number in range(KEPT_BLOBS):
                key, _ = kept_key(workload, number)
                self._send("PUT", f"/{KEPT}/{key}", kept_blob(number))
        elif workload.kind == "read":
            key, _ = kept_key(workload, 0)
            self._send("PUT", f"/{KEPT}/{key}", headers={PRETENDED: str(workload.size)})
            key, _ = warm_key()
            self._send("PUT", f"/{KEPT}/{key}", kept_blob(0))

    def start_counting(self) -> None:
        """Count what clients send from now on."""
        self._send("DELETE", COUNTS)

    def counts(self) -> dict[str, Any]:
        """Return what clients have sent, and what is stored."""
        return dict(json.loads(self._send("GET", COUNTS)))

    def make_room(self) -> None:
        """Delete the written objects."""
        self._send("DELETE", f"/{WRITTEN}")
        self._send("PUT", f"/{WRITTEN}")

    def _send(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
        self._connection.request(method, path, body, headers or {})
        response = self._connection.getresponse()
        content = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path} returned {response.status}")
        return content


class Client:
    """The process of a client."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def receive(self) -> dict[str, Any]:
        """Return the next line that it writes."""
        assert self._process.stdout is not None
        patience = threading.Timer(PATIENCE, self._process.kill)
        patience.start()
        line = self._process.stdout.readline()
        patience.cancel()
        if not line:
            return {"unavailable": f"it ended with exit code {self._process.wait()}"}
        return dict(json.loads(line))

    def turn(self, number: int) -> dict[str, Any]:
        """Run one turn."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"turn {number}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return {"error": f"it ended with exit code {self._process.wait()}"}
        said = self.receive()
        return {"error": said["unavailable"]} if "unavailable" in said else said


@contextmanager
def client(
    entry: Entry, workload: Workload, server: Running, folder: Path, log: Any, *options: str
) -> Iterator[Client]:
    """Start the process of a client, and end it afterwards."""
    environment = clean_environment("GOOGLE_", "AZURE_", "STORAGE_EMULATOR_HOST", "LAKERY_CLOUD_")
    # With `src`, a benchmark in another working tree measures that tree, whatever is installed.
    modules = f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'src'}"
    environment |= {"PYTHONPATH": modules, "AWS_EC2_METADATA_DISABLED": "true"}
    command = [python_of(entry.environment), "-m", "benchmarks.client", "--api", entry.api, "--peer", entry.name]
    command += ["--workload", workload.name, "--url", server.url, "--size", str(workload.size)]
    command += ["--folder", str(folder), *options]
    if server.certificate is not None:
        command += ["--certificate", str(server.certificate)]
        for name in ("AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            environment[name] = str(server.certificate)
    process = subprocess.Popen(  # noqa: S603, our own module
        command,
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    with ending(process):
        yield Client(process)


@contextmanager
def ending(process: "subprocess.Popen[str]") -> Iterator[None]:
    """End the process of a client, and close its pipes even if it reads them no more."""
    try:
        yield
    finally:
        process.kill()  # it has no state to save
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):  # closing a pipe sends its buffer, which the process no longer reads
                pipe.close()


def measure(
    workload: Workload,
    entries: Sequence[Entry],
    *,
    api: str,
    condition: str,
    rounds: int,
    log: Any,
) -> list[Result]:
    """Run one workload under one condition; the clients take turns."""
    results = []
    with ExitStack() as stack:
        server = stack.enter_context(null_server(api, CONDITIONS[condition]))
        admin = stack.enter_context(Admin(server))
        admin.fill(workload)
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="lakery-bench-")))
        if workload.kind == "file":
            write_blocks(folder / CONTENT, workload.size)
        process = psutil.Process(server.pid)
        running: list[tuple[Result, Client]] = []
        for entry, peer in [
            (entry, stack.enter_context(client(entry, workload, server, folder, log))) for entry in entries
        ]:
            result = Result(api, condition, workload.name, entry.name)
            results.append(result)
            said = peer.receive()
            result.unavailable = said.get("unavailable")
            result.version, result.does = said.get("version", ""), said.get("does", "")
            if result.unavailable is None:
                running.append((result, peer))
        for number in range(1, rounds + 1):
            for result, peer in running:
                if workload.stores:
                    admin.make_room()
                admin.start_counting()
                before = process.cpu_times()
                took = peer.turn(number)
                after = process.cpu_times()
                took["server cpu"] = after.user + after.system - before.user - before.system
                took["size"], took["seen"] = workload.size, admin.counts()
                if "error" not in took and (missing := missing_of(workload, took)):
                    took["error"] = missing
                result.turns.append(took)
    return results


def profile(workload: Workload, entry: Entry, *, turns: int, log: Any) -> dict[str, Any]:
    """Run a workload of small requests, and return the share of each part of the program in the client's CPU time.

    Without samples, since the client was not available or failed, all shares are 0.
    """
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        server = stack.enter_context(null_server(entry.api))
        admin = stack.enter_context(Admin(server))
        admin.fill(workload)
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="lakery-bench-")))
        peer = stack.enter_context(client(entry, workload, server, folder, log, "--samples"))
        if "unavailable" not in peer.receive():
            for number in range(1, turns + 1):
                admin.make_room()
                counts.update(peer.turn(number).get("samples", {}))
    total = counts.total()
    shares = {part: counts[part] / max(total, 1) for part in NAMES}
    return {"api": entry.api, "workload": workload.name, "samples": total, "shares": shares}


def missing_of(workload: Workload, turn: dict[str, Any]) -> str | None:
    """Compare what a client has written with what the server has; return the difference.

    A client's own word is no proof of its writes.
    """
    if not workload.stores:
        return None
    found = turn["seen"]["stored"][WRITTEN]
    expected = [turn["operations"], turn["operations"] * workload.size]
    if found == expected:
        return None
    return f"the server has {found[0]} objects of {found[1]} bytes, not {expected[0]} of {expected[1]}"
