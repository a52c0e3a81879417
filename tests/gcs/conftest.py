"""The local servers of Cloud Storage, one each for the whole session, and the rigs on them."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future

import pytest

from lakery_cloud.emulators.fake_gcs import FakeGCS
from lakery_cloud.testing.gcs_double import StrictGCS
from tests.conformance_table import note_case
from tests.gcs.rigs import GCS_CANNOT, GCSRig


@pytest.fixture(scope="session")
def fake_gcs() -> Iterator[FakeGCS]:
    """fake-gcs-server, in a process of its own."""
    with FakeGCS() as server:
        yield server


@pytest.fixture(scope="session")
def strict_gcs() -> Iterator[StrictGCS]:
    """The strict double, in a thread of its own, since some tests bring their own event loops."""
    started: Future[tuple[StrictGCS, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        async with StrictGCS() as server:
            started.set_result((server, asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    server, loop, stop = started.result(10)
    yield server
    loop.call_soon_threadsafe(stop.set)
    thread.join()


@pytest.fixture(autouse=True)
def _no_google_configuration_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("GOOGLE_", "GCSFS_", "STORAGE_", "GCLOUD_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_GCE_CHECK", "true")


@pytest.fixture
async def fake_gcs_rig(request: pytest.FixtureRequest, fake_gcs: FakeGCS) -> AsyncIterator[GCSRig]:
    """A `GCSStorage` on fake-gcs-server, with an empty bucket of its own."""
    async with GCSRig("FakeGCS", fake_gcs.endpoint_url, GCS_CANNOT["fake_gcs"]) as rig:
        note_case(request, rig.name)
        yield rig


@pytest.fixture
async def strict_rig(request: pytest.FixtureRequest, strict_gcs: StrictGCS) -> AsyncIterator[GCSRig]:
    """A `GCSStorage` on the strict double, with an empty bucket of its own."""
    strict_gcs.shortfalls.clear()
    strict_gcs.damage = None
    async with GCSRig("StrictGCS", strict_gcs.url, GCS_CANNOT["strict_gcs"], double=strict_gcs) as rig:
        note_case(request, rig.name)
        yield rig


@pytest.fixture(params=["fake_gcs_rig", "strict_rig"])
def gcs_rig(request: pytest.FixtureRequest) -> GCSRig:
    """A `GCSStorage` on each server."""
    rig: GCSRig = request.getfixturevalue(request.param)
    return rig
