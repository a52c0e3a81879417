"""The pytest plugin: the fixtures `lakery_s3`, `lakery_gcs` and so on, which are storages on local servers.

pytest loads it in every environment with lakery-cloud, so it imports nothing and starts no server before a test uses a
fixture. A server runs until the end of the session (of the worker, with xdist); each test gets a new bucket. Tests of a
cloud without its extra are skipped.
"""

import functools
import inspect
import sys
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from lakery_cloud.emulators import Emulator
    from lakery_cloud.engine.object_storage import ObjectStorage

S3_SERVERS = ("moto", "seaweedfs", "localstack", "ministack")
STORAGES = ("memory", "file", "s3", "gcs", "azure")

_opened: pytest.StashKey[list[Any]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--lakery-s3` and the setting `lakery_s3`, which choose the server for S3."""
    what = "local server for S3 in lakery-cloud's fixtures"
    parser.getgroup("lakery-cloud").addoption("--lakery-s3", choices=S3_SERVERS, help=f"{what} (moto)")
    parser.addini("lakery_s3", f"{what}: {', '.join(S3_SERVERS)}", default=S3_SERVERS[0])


def pytest_configure(config: pytest.Config) -> None:
    """Refuse an unknown server before any test runs."""
    _s3_server(config)


@pytest.fixture(scope="session")
def lakery_s3_server(pytestconfig: pytest.Config) -> Iterator["Emulator"]:
    """The running local server for S3: an `Emulator` with `endpoint_url` and `environment()`."""
    from lakery_cloud.emulators import LocalStack, MiniStack, MotoProcess, SeaweedFS

    kinds: tuple[type[Emulator], ...] = (MotoProcess, SeaweedFS, LocalStack, MiniStack)
    with _running({kind.name: kind for kind in kinds}[_s3_server(pytestconfig)], pytestconfig) as server:
        yield server


@pytest.fixture(scope="session")
def lakery_gcs_server(pytestconfig: pytest.Config) -> Iterator["Emulator"]:
    """The running fake-gcs-server: an `Emulator` with `endpoint_url` and `environment()`."""
    from lakery_cloud.emulators import FakeGCS

    with _running(FakeGCS, pytestconfig) as server:
        yield server


@pytest.fixture(scope="session")
def lakery_azure_server(pytestconfig: pytest.Config) -> Iterator["Emulator"]:
    """The running Azurite: an `Emulator` with `endpoint_url` and `environment()`."""
    from lakery_cloud.emulators import Azurite

    with _running(Azurite, pytestconfig) as server:
        yield server


@pytest.fixture
def lakery_s3(request: pytest.FixtureRequest) -> Iterator["ObjectStorage[Any]"]:
    """An `S3Storage` on a new bucket of a local server."""
    with _on_new_bucket(request, "S3Storage", "lakery_s3_server") as storage:
        yield storage


@pytest.fixture
def lakery_gcs(request: pytest.FixtureRequest) -> Iterator["ObjectStorage[Any]"]:
    """A `GCSStorage` on a new bucket of a local server."""
    with _on_new_bucket(request, "GCSStorage", "lakery_gcs_server") as storage:
        yield storage


@pytest.fixture
def lakery_azure(request: pytest.FixtureRequest) -> Iterator["ObjectStorage[Any]"]:
    """An `AzureBlobStorage` on a new container of a local server."""
    with _on_new_bucket(request, "AzureBlobStorage", "lakery_azure_server") as storage:
        yield storage


@pytest.fixture(params=STORAGES)
def lakery_storage(request: pytest.FixtureRequest) -> Any:
    """Each storage in turn: in memory, in a new folder, and on new buckets of the local servers for the three clouds."""
    if request.param == "memory":
        from lakery_cloud import MemoryStorage

        return _close_after_test(request, MemoryStorage())
    if request.param == "file":
        from lakery_cloud import FileStorage

        folder: Path = request.getfixturevalue("tmp_path")
        return _close_after_test(request, FileStorage(folder / "lakery-storage"))
    return request.getfixturevalue(f"lakery_{request.param}")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Close the test's storages at the end of the test, on its event loop: a storage can't be closed on another loop."""
    opened = item.stash.get(_opened, [])
    owner: Any = getattr(getattr(item, "obj", None), "hypothesis", None) or item
    name = "obj" if owner is item else "inner_test"
    test = getattr(owner, name, None)
    if not opened or not inspect.iscoroutinefunction(test):
        return (yield)

    @functools.wraps(test)
    async def test_and_close(*arguments: Any, **named: Any) -> Any:
        try:
            return await test(*arguments, **named)
        finally:
            for storage in opened:
                await storage.aclose()

    setattr(owner, name, test_and_close)
    try:
        return (yield)
    finally:
        setattr(owner, name, test)


def _s3_server(config: pytest.Config) -> str:
    name = str(config.getoption("--lakery-s3") or config.getini("lakery_s3"))
    if name not in S3_SERVERS:
        raise pytest.UsageError(f"lakery_s3 must be one of {', '.join(S3_SERVERS)}, not {name!r}")
    return name


@contextmanager
def _running(kind: type["Emulator"], config: pytest.Config) -> Iterator["Emulator"]:
    """Install the server if needed, and run it. Skip the tests that need it if this Python lacks a package for it."""
    server = kind()
    with _skipped_without_package():
        server.install(lambda step: _tell(config, step))
    with server:
        yield server


@contextmanager
def _on_new_bucket(request: pytest.FixtureRequest, storage_class: str, fixture: str) -> Iterator["ObjectStorage[Any]"]:
    import lakery_cloud

    with _skipped_without_package():  # before a server is installed and started for it
        getattr(lakery_cloud, storage_class)
    server: Emulator = request.getfixturevalue(fixture)
    bucket = f"test-{uuid.uuid4()}"
    server.make_bucket(bucket)
    yield _close_after_test(request, server.storage(bucket))
    server.remove_bucket(bucket)


@contextmanager
def _skipped_without_package() -> Iterator[None]:
    from lakery_cloud import MissingDependency

    try:
        yield
    except MissingDependency as error:
        pytest.skip(str(error))


def _tell(config: pytest.Config, step: str) -> None:
    """Print a step of an installation at once, although pytest captures output: it may take minutes."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        print(f"\nlakery-cloud: {step}", file=sys.stderr, flush=True)  # noqa: T201, a message of a program


def _close_after_test(request: pytest.FixtureRequest, storage: Any) -> Any:
    """Register the storage to be closed at the end of the test."""
    request.node.stash.setdefault(_opened, []).append(storage)
    return storage
