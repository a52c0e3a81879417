"""The emulators for real: they install, start, store, stop, and leave nothing behind."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aioboto3
import boto3
import psutil
import pytest
from aiobotocore.config import AioConfig

from lakery_cloud.emulators import (
    EMULATORS,
    Azurite,
    Emulator,
    EmulatorError,
    FakeGCS,
    LocalStack,
    MiniStack,
    MotoServer,
    SeaweedFS,
    install,
)
from lakery_cloud.emulators.server import ProcessEmulator
from lakery_cloud.emulators.servers.azurite import SWEEP_INTERVAL
from lakery_cloud.emulators.system import can_bind
from tests.helpers import PATIENCE, wait_until

PROCESSES = [MiniStack, SeaweedFS]
"""One in Python and one with several ports; LocalStack starts slower and shows the same, except where it is named."""
CONFIG = AioConfig(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})

INSTALL = """
from lakery_cloud.emulators import FakeGCS
FakeGCS().install(report=lambda message: print(message, flush=True))
"""
"""The smallest one."""
START_AND_EXIT = """
import sys
from lakery_cloud.emulators import EMULATORS
server = EMULATORS[sys.argv[1]]().start()
print(server._process.pid, server.folder, server.endpoint_url)
"""
START_AND_DIE = """
import os, signal
from lakery_cloud.emulators import SeaweedFS
server = SeaweedFS().start()
print(server._process.pid, server.folder, *(port + server.GRPC_OFFSET for port in server._ports), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@contextlib.asynccontextmanager
async def s3(server: Emulator, **config: Any) -> AsyncIterator[Any]:
    session = aioboto3.Session(
        aws_access_key_id=server.access_key_id,
        aws_secret_access_key=server.secret_access_key,
        region_name=server.region,
    )
    settings = CONFIG.merge(AioConfig(**config))
    async with session.client("s3", endpoint_url=server.endpoint_url, config=settings) as client:
        yield client


async def put_and_get(server: Emulator, *, bucket: str, body: bytes) -> bytes:
    async with s3(server) as client:
        await client.create_bucket(Bucket=bucket)
        await client.put_object(Bucket=bucket, Key="a/key", Body=body)
        response = await client.get_object(Bucket=bucket, Key="a/key")
        async with response["Body"]:
            return bytes(await response["Body"].read())


def port_of(endpoint_url: str) -> int:
    return int(endpoint_url.rpartition(":")[2])


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def leftovers() -> set[str]:
    """Folders of the emulators that this process started; other processes may be testing too."""
    return {str(path) for path in Path(tempfile.gettempdir()).glob(f"lakery-*-{os.getpid()}-*")}


def children() -> set[psutil.Process]:
    """Processes that this one started, directly or not."""
    return set(psutil.Process().children(recursive=True))


@pytest.fixture
def listener() -> Iterator[int]:
    """A port with another listener."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


S3_EMULATORS = {kind.name: kind for kind in (MotoServer, LocalStack, SeaweedFS, MiniStack)}


@pytest.mark.parametrize("kind", S3_EMULATORS.values(), ids=S3_EMULATORS.keys())
class TestEveryS3Emulator:
    async def test_stores_an_object_is_found_by_an_sdk_and_leaves_nothing(
        self, kind: type[Emulator], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = leftovers(), children()
        with kind() as server:
            port = port_of(server.endpoint_url)
            assert await put_and_get(server, bucket="bucket", body=b"content" * 1000) == b"content" * 1000
            for name, value in server.environment().items():
                monkeypatch.setenv(name, value)
            buckets = boto3.session.Session().client("s3").list_buckets()["Buckets"]
            assert [bucket["Name"] for bucket in buckets] == ["bucket"]
        assert not is_listening(port)
        assert (leftovers(), children()) == before

    def test_has_no_address_unless_started(self, kind: type[Emulator]) -> None:
        with pytest.raises(EmulatorError, match=f"{kind.name} is not started"):
            kind().environment()

    async def test_stops_twice_and_starts_again_empty(self, kind: type[Emulator]) -> None:
        server = kind()
        assert server.start() is server.start()
        assert await put_and_get(server, bucket="bucket", body=b"once") == b"once"
        server.stop()
        server.stop()
        with server:
            async with s3(server) as client:
                assert (await client.list_buckets())["Buckets"] == []


@pytest.mark.parametrize("kind", [*PROCESSES, LocalStack])
class TestProcessesOfOneMachine:
    async def test_two_run_side_by_side(self, kind: type[ProcessEmulator]) -> None:
        with kind() as one, kind() as two:
            assert await put_and_get(one, bucket="bucket", body=b"one") == b"one"
            assert await put_and_get(two, bucket="bucket", body=b"two") == b"two"

    def test_start_together(self, kind: type[ProcessEmulator]) -> None:
        servers = [kind() for _ in range(2)]
        threads = [threading.Thread(target=server.start) for server in servers]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len({server.endpoint_url for server in servers}) == 2
        finally:
            for server in servers:
                server.stop()

    def test_listens_on_this_machine_only(self, kind: type[ProcessEmulator]) -> None:
        with kind() as server:
            assert server._process is not None
            process = psutil.Process(server._process.pid)
            connections = process.net_connections("inet")
            hosts = {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}
        assert hosts == {"127.0.0.1"}


@pytest.mark.parametrize("kind", PROCESSES)
class TestProcesses:
    def test_uses_other_ports_if_one_was_taken_in_between(
        self, kind: type[ProcessEmulator], listener: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        choose, choices = kind._choose_ports, []

        def choose_badly_first(server: ProcessEmulator) -> list[int]:
            ports = choose(server)
            choices.append(ports)
            return ports if len(choices) > 1 else [listener, *ports[1:]]

        monkeypatch.setattr(kind, "_choose_ports", choose_badly_first)
        with kind() as server:
            assert port_of(server.endpoint_url) == choices[1][0]

    def test_names_a_taken_port_that_was_asked_for(self, kind: type[ProcessEmulator], listener: int) -> None:
        with pytest.raises(EmulatorError, match=f"already listens on port {listener}"):
            kind(port=listener).start()

    def test_failure_names_the_end_of_the_log(
        self, kind: type[ProcessEmulator], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = leftovers()
        command = [sys.executable, "-c", "import sys; print('the last words'); sys.exit(3)"]
        monkeypatch.setattr(kind, "_command", lambda server: command)
        with pytest.raises(EmulatorError, match=r"ended with exit code 3 .*\s+the last words"):
            kind().start()
        assert leftovers() == before

    def test_late_start_names_the_end_of_the_log(
        self, kind: type[ProcessEmulator], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = leftovers()
        monkeypatch.setattr(kind, "START_TIMEOUT", 0.1)
        monkeypatch.setattr(kind, "_is_ready", lambda server: False)
        with pytest.raises(EmulatorError, match=r"was not ready within 0\.1 seconds\. The end of its log:\n"):
            kind().start()
        assert leftovers() == before

    def test_ends_with_an_interpreter_that_did_not_stop_it(self, kind: type[ProcessEmulator]) -> None:
        command = [sys.executable, "-c", START_AND_EXIT, kind.name]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        pid, folder, endpoint_url = printed.split()
        assert not psutil.pid_exists(int(pid))
        assert not Path(folder).exists()
        assert not is_listening(port_of(endpoint_url))

    def test_wait_returns_when_it_died(self, kind: type[ProcessEmulator]) -> None:
        with kind() as server:
            assert server.wait(0.1) is None
            assert server._process is not None
            server._process.kill()
            assert server.wait(PATIENCE) == -signal.SIGKILL


@pytest.mark.parametrize("kind", [FakeGCS, Azurite])
class TestOtherClouds:
    def test_starts_stops_and_leaves_nothing(self, kind: type[ProcessEmulator]) -> None:
        before = leftovers(), children()
        with kind() as server:
            port = port_of(server.endpoint_url)
            assert is_listening(port)
            assert server._process is not None
            connections = psutil.Process(server._process.pid).net_connections("inet")
            hosts = {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}
            assert hosts == {"127.0.0.1"}
            server.stop()
            server.stop()
        assert not is_listening(port)
        assert (leftovers(), children()) == before

    def test_two_run_side_by_side_and_start_again(self, kind: type[ProcessEmulator]) -> None:
        with kind() as one, kind() as two:
            assert one.endpoint_url != two.endpoint_url
            two.stop()
            assert is_listening(port_of(two.start().endpoint_url))

    def test_every_emulator_is_listed(self, kind: type[ProcessEmulator]) -> None:
        assert {**S3_EMULATORS, FakeGCS.name: FakeGCS, Azurite.name: Azurite} == EMULATORS


class TestSeaweedFS:
    def test_leaves_no_socket_outside_of_its_folder(self) -> None:
        with SeaweedFS() as server:
            ports = [port + server.GRPC_OFFSET for port in server._ports]
            assert sockets_of(ports)
        assert not sockets_of(ports)

    def test_ends_with_an_interpreter_that_is_killed_and_leaves_nothing(self) -> None:
        printed = subprocess.run([sys.executable, "-c", START_AND_DIE], capture_output=True, text=True).stdout
        pid, folder, *ports = printed.split()
        wait_until(lambda: not (psutil.pid_exists(int(pid)) or Path(folder).exists() or sockets_of(ports)))


def sockets_of(ports: list[Any]) -> list[Path]:
    """Return the gRPC sockets of SeaweedFS, which ignores TMPDIR."""
    return [path for port in ports for path in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock")]


class TestAzurite:
    def test_it_sweeps_seldom_since_it_answers_nothing_meanwhile(self, tmp_path: Path) -> None:
        log = tmp_path / "log"

        class Logging(Azurite):
            def _command(self) -> list[str]:
                return [*super()._command(), f"--debug={log}"]

        with Logging():
            wait_until(lambda: f"Sleep for {SWEEP_INTERVAL * 1000}ms" in log.read_text())


class TestMoto:
    async def test_stop_cuts_open_connections(self) -> None:
        server = MotoServer().start()
        with socket.create_connection(("127.0.0.1", port_of(server.endpoint_url))) as idle:
            idle.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert idle.recv(9).startswith(b"HTTP/1.1")
            server.stop()
            idle.settimeout(PATIENCE)
            while idle.recv(1 << 16):
                pass

    async def test_two_share_state_until_the_last_stops(self) -> None:
        with MotoServer() as one:
            with MotoServer() as two:
                await put_and_get(two, bucket="bucket", body=b"shared")
            async with s3(one) as client:
                assert len((await client.list_buckets())["Buckets"]) == 1
        with MotoServer() as three:
            async with s3(three) as client:
                assert (await client.list_buckets())["Buckets"] == []


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAKERY_CLOUD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class TestInstall:
    def test_interrupted_install_is_redone(self, empty_cache: Path) -> None:
        environment = install.Environment(f"{FakeGCS.name}-{FakeGCS.version}")
        with subprocess.Popen([sys.executable, "-c", INSTALL], start_new_session=True) as process:
            wait_until(lambda: process.poll() is not None or environment.executable("python").exists())
            assert process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)
        assert environment.folder.exists()
        assert not environment.is_installed
        (environment.folder / "debris").touch()
        said: list[str] = []
        with FakeGCS() as server:
            server.install(said.append)
        assert environment.is_installed
        assert not (environment.folder / "debris").exists()
        assert said == []

    def test_of_two_processes_one_installs(self, empty_cache: Path) -> None:
        command = [sys.executable, "-c", INSTALL]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        printed = "".join(process.communicate()[0] for process in processes)
        assert [process.returncode for process in processes] == [0, 0]
        assert printed.count("installed fake-gcs") == 1

    def test_vanished_interpreter_means_not_installed(self, empty_cache: Path) -> None:
        environment = install.Environment(f"{FakeGCS.name}-{FakeGCS.version}")
        environment.folder.mkdir(parents=True)
        (environment.folder / install.MARKER).touch()
        assert not environment.is_installed

    def test_failing_pip_names_the_end_of_its_output(
        self, empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "seaweedfs-4.48.txt").write_text("this is no requirement\n")
        monkeypatch.setattr(install, "CONSTRAINTS", tmp_path)
        with pytest.raises(EmulatorError, match=r"exit code 1. The end of its output:\n[^$]*this is no requirement"):
            SeaweedFS().start()
        assert not install.Environment("seaweedfs-4.48").is_installed

    def test_unusable_cache_folder_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("LAKERY_CLOUD_CACHE", str(tmp_path / "file"))
        with pytest.raises(EmulatorError, match="cannot be installed into"):
            SeaweedFS().install()

    def test_other_constraints_get_another_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shutil.copytree(install.CONSTRAINTS, tmp_path / "constraints")
        shipped = install.Environment("localstack-4.12.0").folder
        monkeypatch.setattr(install, "CONSTRAINTS", tmp_path / "constraints")
        (tmp_path / "constraints" / "localstack-4.12.0.txt").write_text("localstack-core==4.12.0\n")
        assert install.Environment("localstack-4.12.0").folder.name.startswith("localstack-4.12.0-")
        assert install.Environment("localstack-4.12.0").folder != shipped


def test_free_port_is_distinguished_from_a_taken_one(listener: int) -> None:
    assert not can_bind(listener)
