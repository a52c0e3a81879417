"""The local servers, one each for a run; each is started when the first test needs it.

Under xdist the main process starts them, and its workers share them.
"""

import asyncio
import contextlib
import json
import os
import socket
import socketserver
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import cache
from typing import Any, TypeVar

import pytest

from lakery_cloud.emulators import (
    Azurite,
    Emulator,
    EmulatorError,
    FakeGCS,
    LocalStack,
    MiniStack,
    MotoProcess,
    SeaweedFS,
)
from lakery_cloud.emulators.servers.rclone import RcloneS3
from lakery_cloud.testing import AzureDouble, StrictGCS, StrictS3
from tests.helpers import PATIENCE
from tests.rigs.s3 import SMALL_PART

T = TypeVar("T")

RUNNING_LOCALSTACK = "LAKERY_CLOUD_LOCALSTACK_URL"
BUCKET_KEYS = {f"bucket-of-its-own-{number}": (f"its-own-key-{number}", "its-own-secret") for number in range(16)}
"""Buckets that SeaweedFS gives a key for that opens no other; one for each worker of xdist."""


class SeaweedFSWithBucketKeys(SeaweedFS):
    """SeaweedFS that knows the `BUCKET_KEYS` too."""

    def _identities(self) -> dict[str, Any]:
        known: Any = super()._identities()
        for bucket, (key, secret) in BUCKET_KEYS.items():
            credentials = {"accessKey": key, "secretKey": secret}
            actions = [f"{action}:{bucket}" for action in ("Read", "Write", "List", "Tagging")]
            known["identities"].append({"name": bucket, "credentials": [credentials], "actions": actions})
        return known


class MotoWithSmallParts(MotoProcess):
    """moto that accepts parts as small as those of its double."""

    def _process_environment(self) -> dict[str, str]:
        return super()._process_environment() | {"S3_UPLOAD_PART_MIN_SIZE": str(SMALL_PART)}


SERVERS: Mapping[str, type[Emulator]] = {
    "moto": MotoWithSmallParts,  # not in a thread, since servers in one process share state
    "localstack": LocalStack,
    "seaweedfs": SeaweedFSWithBucketKeys,
    "ministack": MiniStack,
    "rclone": RcloneS3,
    "fake_gcs": FakeGCS,
    "azurite": Azurite,
}
"""The servers in processes of their own, by their fixtures."""


class Lender(socketserver.ThreadingTCPServer):
    """Starts each server once for all workers, which ask for it by its name, and stops them all at the end of the run."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Loan)
        self._running: dict[str, Emulator] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def lend(self, name: str) -> str:
        """Return the URL of a running server."""
        with self._locks[name]:
            if name not in self._running:
                self._running[name] = SERVERS[name]().start()
            return self._running[name].endpoint_url

    def close(self) -> None:
        """Stop all servers."""
        self.shutdown()
        self.server_close()
        for server in self._running.values():
            server.stop()


class _Loan(socketserver.StreamRequestHandler):
    """One request of a worker: a line with the name of a server, answered with its URL or with the error."""

    server: Lender

    def handle(self) -> None:
        name = self.rfile.readline().decode().strip()
        try:
            answer = {"url": self.server.lend(name)}
        except EmulatorError as error:
            answer = {"error": str(error)}
        self.wfile.write(json.dumps(answer).encode())


LENDER = pytest.StashKey[Lender]()


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        config.stash[LENDER] = Lender()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker where to ask for servers."""
    node.workerinput["lender"] = node.config.stash[LENDER].server_address


def pytest_unconfigure(config: pytest.Config) -> None:
    if LENDER in config.stash:
        config.stash[LENDER].close()


def borrowed(name: str, lender: tuple[str, int]) -> Emulator:
    """Return a server that the main process of xdist started for all its workers."""
    with socket.create_connection(lender) as connection, connection.makefile("rwb") as lines:
        lines.write(f"{name}\n".encode())
        lines.flush()
        answer = json.loads(lines.read())
    if "error" in answer:
        raise EmulatorError(answer["error"])
    return SERVERS[name].at(answer["url"])


def server_fixture(name: str) -> Any:
    """A fixture: the server of this name, in a process of its own."""

    @pytest.fixture(scope="session", name=name)
    def server(pytestconfig: pytest.Config) -> Iterator[Emulator]:
        lender = getattr(pytestconfig, "workerinput", {}).get("lender")
        running = os.environ.get(RUNNING_LOCALSTACK) if name == "localstack" else None
        if running:
            yield LocalStack.at(running)
        elif lender:
            yield borrowed(name, tuple(lender))
        else:
            with SERVERS[name]() as started:
                yield started

    return server


moto, localstack, seaweedfs, ministack, rclone, fake_gcs, azurite = map(server_fixture, SERVERS)


@pytest.fixture(scope="session")
def strict_gcs() -> Iterator[StrictGCS]:
    """The strict double, in a thread of its own, since some tests bring their own event loops."""
    with in_a_thread(StrictGCS) as server:
        yield server


@pytest.fixture(scope="session")
def strict_s3() -> Iterator[StrictS3]:
    """The strict double of S3, in a thread of its own."""
    with in_a_thread(StrictS3) as server:
        yield server


@contextmanager
def in_a_thread(make: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """A server on an event loop of its own."""
    started: Future[tuple[T, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        async with make() as server:
            started.set_result((server, asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    server, loop, stop = started.result(PATIENCE)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@pytest.fixture(scope="session")
def azure_doubles(azurite: Azurite) -> Iterator[Callable[[str], AzureDouble]]:
    """The doubles of Azure accounts by their profiles, each in a thread of its own once a test needs it."""
    with contextlib.ExitStack() as stack:

        @cache
        def double(profile: str) -> AzureDouble:
            return stack.enter_context(in_a_thread(lambda: AzureDouble(azurite, profile)))

        yield double
