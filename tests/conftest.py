"""Fixtures that all tests share: local servers, one each for the whole session, and the rigs on them."""

import contextlib
import multiprocessing
import os
from collections.abc import AsyncIterator, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from lakery_cloud.emulators import EMULATORS, Emulator, MotoServer
from tests.conformance_table import note_case, write_table
from tests.rigs import S3_CANNOT, FileRig, MemoryRig, S3Rig


# Under xdist the terminal is the only one that sees all reports.
def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--conformance-table", type=Path, help="write the results of all cases to this file")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    path = config.getoption("--conformance-table")
    if path is not None:
        stats = terminalreporter.stats
        write_table(
            path, [report for outcome in ("passed", "failed", "error", "skipped") for report in stats.get(outcome, ())]
        )


RUNNING_LOCALSTACK = "LAKERY_CLOUD_LOCALSTACK_URL"


class RunningServer(Emulator):
    """A server that somebody else started, and ends."""

    def __init__(self, kind: type[Emulator], endpoint_url: str) -> None:
        self.kind = kind
        self._endpoint_url = endpoint_url

    def install(self, report: Any = None) -> None:
        pass

    def start(self) -> "RunningServer":
        return self

    def stop(self) -> None:
        pass


def _server(name: str) -> Iterator[Emulator]:
    url = os.environ.get(RUNNING_LOCALSTACK)
    if name == "localstack" and url:
        yield RunningServer(EMULATORS[name], url)
        return
    with EMULATORS[name]() as server:
        yield server


def _serve_moto(connection: Connection) -> None:
    with MotoServer() as server:
        connection.send(server.endpoint_url)
        with contextlib.suppress(EOFError):
            connection.recv()


@pytest.fixture(scope="session")
def moto() -> Iterator[Emulator]:
    """moto's server, in a process of its own: it would share state with other servers of this process."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve_moto, args=(there,), daemon=True)
    process.start()
    there.close()
    yield RunningServer(MotoServer, here.recv())
    here.close()
    process.join()


@pytest.fixture(scope="session")
def localstack() -> Iterator[Emulator]:
    """LocalStack, in a process of its own or one that runs already."""
    yield from _server("localstack")


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[Emulator]:
    """SeaweedFS, in a process of its own."""
    yield from _server("seaweedfs")


@pytest.fixture(autouse=True)
def _no_configuration_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Neither credentials nor settings of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "LAKERY_CLOUD_STORAGE"))]:
        monkeypatch.delenv(name)
    nowhere = tmp_path_factory.getbasetemp() / "nowhere"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(nowhere))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def memory_rig(request: pytest.FixtureRequest) -> MemoryRig:
    """A `MemoryStorage` without content."""
    note_case(request, MemoryRig.name)
    return MemoryRig()


@pytest.fixture
def file_rig(request: pytest.FixtureRequest, tmp_path: Path) -> FileRig:
    """A `FileStorage` without content."""
    note_case(request, FileRig.name)
    return FileRig(tmp_path)


@pytest.fixture(params=["moto", "localstack", "seaweedfs"])
async def s3_rig(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[S3Rig]:
    """An `S3Storage` on each server, with an empty bucket of its own."""
    server: Emulator = request.getfixturevalue(request.param)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_access_key)
    async with S3Rig(server, S3_CANNOT[request.param]) as rig:
        note_case(request, rig.name)
        yield rig
