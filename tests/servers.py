"""The local servers, one each for a session; each is started when the first test needs it."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import cache
from typing import Any, TypeVar

import pytest

from lakery_cloud.emulators import (
    Azurite,
    Emulator,
    FakeGCS,
    LocalStack,
    MotoProcess,
    SeaweedFS,
)
from lakery_cloud.emulators.servers.rclone import RcloneS3
from lakery_cloud.testing import AzureDouble, StrictGCS, StrictS3
from tests.helpers import PATIENCE

T = TypeVar("T")

RUNNING_LOCALSTACK = "LAKERY_CLOUD_LOCALSTACK_URL"
BUCKET_KEYS = {"bucket-of-its-own": ("its-own-key", "its-own-secret")}
"""Buckets that SeaweedFS gives a key for that opens no other."""


class SeaweedFSWithBucketKeys(SeaweedFS):
    """SeaweedFS that knows the `BUCKET_KEYS` too."""

    def _identities(self) -> dict[str, Any]:
        known: Any = super()._identities()
        for bucket, (key, secret) in BUCKET_KEYS.items():
            credentials = {"accessKey": key, "secretKey": secret}
            actions = [f"{action}:{bucket}" for action in ("Read", "Write", "List", "Tagging")]
            known["identities"].append({"name": bucket, "credentials": [credentials], "actions": actions})
        return known


@pytest.fixture(scope="session")
def moto() -> Iterator[Emulator]:
    """moto's server, in a process of its own, since servers in one process share state."""
    with MotoProcess() as server:
        yield server


@pytest.fixture(scope="session")
def localstack() -> Iterator[Emulator]:
    """LocalStack, in a process of its own or one that runs already."""
    url = os.environ.get(RUNNING_LOCALSTACK)
    with contextlib.nullcontext(LocalStack.at(url)) if url else LocalStack() as server:
        yield server


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[SeaweedFS]:
    """SeaweedFS, in a process of its own."""
    with SeaweedFSWithBucketKeys() as server:
        yield server


@pytest.fixture(scope="session")
def rclone() -> Iterator[RcloneS3]:
    """rclone's S3 gateway to a folder, in a process of its own."""
    with RcloneS3() as server:
        yield server


@pytest.fixture(scope="session")
def fake_gcs() -> Iterator[FakeGCS]:
    """fake-gcs-server, in a process of its own."""
    with FakeGCS() as server:
        yield server


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
def azurite() -> Iterator[Azurite]:
    """Azurite, in a process of its own."""
    with Azurite() as server:
        yield server


@pytest.fixture(scope="session")
def azure_doubles(azurite: Azurite) -> Iterator[Callable[[str], AzureDouble]]:
    """The doubles of Azure accounts by their profiles, each in a thread of its own once a test needs it."""
    with contextlib.ExitStack() as stack:

        @cache
        def double(profile: str) -> AzureDouble:
            return stack.enter_context(in_a_thread(lambda: AzureDouble(azurite, profile)))

        yield double
