"""Runs workloads: one null server and one process for each peer, and turns that go around: A B C, A B C.

All peers meet the same server, the same content and the same machine, at nearly the same time.
"""

import http.client
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

import psutil

from benchmarks.environments import python_of
from benchmarks.null_server import REPOSITORY, Running, null_server
from benchmarks.null_server.objects import PRETENDED
from benchmarks.peers.catalog import Entry
from benchmarks.plan import CONDITIONS
from benchmarks.workloads import KEPT, KEPT_BLOBS, WRITTEN, Workload, kept_blob, kept_key, warm_key
from lakery_cloud.emulators.system import clean_environment

PATIENCE = 300.0
"""Seconds that a client may take for one answer before it is killed."""


@dataclass
class Result:
    """A peer's turns at one workload.

    Attributes:
        api: Which API.
        condition: Name of the conditions.
        workload: Name of the workload.
        peer: Name of the peer.
        version: Version of the peer's package.
        does: What it does, in words.
        turns: What each turn took: operations, seconds, processor seconds of client and server, peak memory; or an error.
        unavailable: Why it could not take part.
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
        """It, for a file."""
        return asdict(self)


class Admin:
    """Requests of the harness itself to a null server, which answers S3 whatever else it speaks."""

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
        """Make buckets, and what the workload reads."""
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

    def make_room(self) -> None:
        """Drop what was written."""
        self._send("DELETE", f"/{WRITTEN}")
        self._send("PUT", f"/{WRITTEN}")

    def _send(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self._connection.request(method, path, body, headers or {})
        answer = self._connection.getresponse()
        answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path} was answered {answer.status}")


class Client:
    """A peer's process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def hear(self) -> dict[str, Any]:
        """The next line that it says."""
        assert self._process.stdout is not None
        patience = threading.Timer(PATIENCE, self._process.kill)
        patience.start()
        line = self._process.stdout.readline()
        patience.cancel()
        if not line:
            return {"unavailable": f"it ended with exit code {self._process.wait()}"}
        return dict(json.loads(line))

    def turn(self, number: int) -> dict[str, Any]:
        """Have it do its work once."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"turn {number}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return {"error": f"it ended with exit code {self._process.wait()}"}
        said = self.hear()
        return {"error": said["unavailable"]} if "unavailable" in said else said


@contextmanager
def client(entry: Entry, workload: Workload, server: Running, log: Any) -> Iterator[Client]:
    """A peer's process, ready or not."""
    environment = clean_environment("GOOGLE_", "AZURE_", "STORAGE_EMULATOR_HOST")
    environment |= {"PYTHONPATH": str(REPOSITORY), "AWS_EC2_METADATA_DISABLED": "true"}
    command = [python_of(entry.environment), "-m", "benchmarks.client", "--api", entry.api, "--peer", entry.name]
    command += ["--workload", workload.name, "--url", server.url]
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
    """End a peer's process afterwards, and close its pipes whether or not it reads them."""
    try:
        yield
    finally:
        process.kill()  # it has nothing to lose
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):  # to close is to send what is left, which nobody reads any more
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
    """Rounds of one workload under one condition; the peers take turns."""
    results = []
    with ExitStack() as stack:
        server = stack.enter_context(null_server(api, CONDITIONS[condition]))
        admin = stack.enter_context(Admin(server))
        admin.fill(workload)
        process = psutil.Process(server.pid)
        running: list[tuple[Result, Client]] = []
        for entry, peer in [(entry, stack.enter_context(client(entry, workload, server, log))) for entry in entries]:
            result = Result(api, condition, workload.name, entry.name)
            results.append(result)
            said = peer.hear()
            result.unavailable = said.get("unavailable")
            result.version, result.does = said.get("version", ""), said.get("does", "")
            if result.unavailable is None:
                running.append((result, peer))
        for number in range(1, rounds + 1):
            for result, peer in running:
                before = process.cpu_times()
                took = peer.turn(number)
                after = process.cpu_times()
                took["server cpu"] = after.user + after.system - before.user - before.system
                result.turns.append(took)
                if workload.kind in ("put", "write"):
                    admin.make_room()
    return results
