"""`lakery-cloud emulators` as a user runs it: servers start, are found, used, and end; those of other users are never touched."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from lakery_cloud.cli import emulators
from lakery_cloud.emulators import EMULATORS
from lakery_cloud.emulators.background import client_settings, state
from lakery_cloud.emulators.background.state import Running
from lakery_cloud.errors import ConfigError
from tests.helpers import COMMAND, PATIENCE, wait_until


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide the servers of the user, and end those of a failed test."""
    monkeypatch.setenv("LAKERY_CLOUD_STATE", str(tmp_path / "state"))
    yield
    emulators.down(quiet=True)


def run(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    command = [*COMMAND, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env={**os.environ, **env})


def in_background(*arguments: str) -> list[dict[str, Any]]:
    """Run `up -d`, and return its JSON."""
    done = run("emulators", "up", "--detach", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def in_foreground(*arguments: str, wrapper: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    """`up`, once it is ready."""
    command = [*wrapper, *COMMAND, "emulators", "up", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "Ctrl-C stops the servers and deletes their data.\n"
    return process


def processes_of(name: str) -> list[psutil.Process]:
    """The keeper of a server, its watcher and the server."""
    running = state.find(name)
    assert running is not None
    keeper = psutil.Process(running.pid)
    return [keeper, *keeper.children(recursive=True)]


def assert_gone(processes: list[psutil.Process]) -> None:
    wait_until(lambda: not any(process.is_running() for process in processes))


def running_names() -> list[str]:
    return [name for name in emulators.EMULATORS if state.find(name)]


def test_background_server_is_used_by_its_exports_and_ended_once() -> None:
    (found,) = in_background("moto", "--bucket", "one", "--bucket", "two")
    assert found["buckets"] == ["one", "two"]
    exports = run("emulators", "env").stdout
    put_and_get = f"{exports}printf hello | {shlex.join(COMMAND)} put - | {shlex.join(COMMAND)} get -"
    assert subprocess.run(["sh", "-c", put_and_get], capture_output=True, check=True).stdout == b"hello"
    listed = {line["name"]: line for line in map(json.loads, run("emulators", "list", "--json").stdout.splitlines())}
    assert listed["moto"]["running"]["endpoint_url"] == found["endpoint_url"]
    assert [name for name, line in listed.items() if line["running"]] == ["moto"]
    processes = processes_of("moto")
    assert run("emulators", "down").stdout == "stopped  moto\n"
    assert_gone(processes)
    assert (run("emulators", "down").stdout, run("emulators", "down", "moto").stdout) == ("", "not running  moto\n")


def test_up_of_a_running_server_creates_buckets_and_prints_its_url() -> None:
    (first,) = in_background("moto", "--bucket", "one")
    (second,) = in_background("moto", "--bucket", "two")
    assert (second["pid"], second["buckets"]) == (first["pid"], ["one", "two"])
    with pytest.raises(ConfigError, match="moto is already running on http://127.0.0.1:"):
        emulators.up("moto", detach=True, port=("1",))


def test_down_ends_only_the_named_servers(capsys: pytest.CaptureFixture[str]) -> None:
    in_background("moto", "fake-gcs")
    processes = processes_of("fake-gcs")
    assert len(processes) == 3
    emulators.down("fake-gcs")
    assert capsys.readouterr().out == "stopped  fake-gcs\n"
    assert_gone(processes)
    assert running_names() == ["moto"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
def test_foreground_servers_end_with_the_command_and_that_is_no_failure(number: signal.Signals) -> None:
    # A shell starts background processes of a script with Ctrl-C ignored. SIGTERM must still work.
    wrapper = ("sh", "-c", 'trap "" INT; exec "$@"', "sh") if number == signal.SIGTERM else ()
    process = in_foreground("moto", "fake-gcs", wrapper=wrapper)
    processes = processes_of("moto") + processes_of("fake-gcs")
    process.send_signal(number)
    output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "stopped\n")
    assert_gone(processes)
    configuration, _, shell = output.partition("# or, in a shell\n")
    assert tomllib.loads(configuration)["storages"]["fake_gcs"]["url"] == "gs://lakery"
    assert "export STORAGE_EMULATOR_HOST=http://127.0.0.1:" in shell


@pytest.mark.parametrize("victim", ["command", "keeper"])
def test_servers_end_with_a_process_that_is_killed(victim: str) -> None:
    process = in_foreground("fake-gcs")
    processes = processes_of("fake-gcs")
    os.kill(process.pid if victim == "command" else processes[0].pid, signal.SIGKILL)
    assert_gone(processes)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == (-signal.SIGKILL if victim == "command" else 1)
    assert running_names() == []


def test_a_server_that_ends_by_itself_is_a_failure() -> None:
    process = in_foreground("moto", "fake-gcs")
    processes = processes_of("moto")
    server = next(each for each in processes_of("fake-gcs") if "fake-gcs-server" in each.name())
    server.kill()
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "fake-gcs has ended by itself. The end of its log:\n" in errors
    assert_gone(processes)


def test_down_from_elsewhere_ends_the_command_without_a_failure() -> None:
    process = in_foreground("moto")
    emulators.down("moto")
    _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "moto was stopped by another process\n")


def test_port_is_the_one_that_was_asked_for_or_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        taken.listen()
        done = run("emulators", "up", "moto", "fake-gcs", "--port", f"moto={port}", "-d")
        assert done.returncode == 1
        assert f"something already listens on port {port}" in done.stderr
    assert running_names() == []
    assert in_background("moto", "--port", port)[0]["endpoint_url"] == f"http://127.0.0.1:{port}"


def test_all_servers_keep_content_by_the_configuration_that_is_printed(tmp_path: Path) -> None:
    assert [server["name"] for server in in_background("--all", "--bucket", "my-bucket")] == [*EMULATORS]
    file, configuration = tmp_path / "hello.txt", tmp_path / "lakery-cloud.toml"
    file.write_text("hello")
    configuration.write_text(run("emulators", "env", "--toml").stdout)
    keys = [*tomllib.loads(configuration.read_text())["storages"]]
    assert len(keys) == len(EMULATORS)
    for key in keys:
        put = run("put", str(file), "-s", key, LAKERY_CLOUD_CONFIG=str(configuration))
        assert put.returncode == 0, put.stderr
        assert run("get", put.stdout, LAKERY_CLOUD_CONFIG=str(configuration)).stdout == "hello"
    assert run("emulators", "down").returncode == 0
    assert running_names() == []


def test_note_of_a_dead_keeper_is_ignored() -> None:
    with state.keep("moto"):
        state.write(running("moto", pid=os.getpid()))
        assert state.find("moto") is not None
        note = (state.state_folder() / "moto.json").read_text()
    (state.state_folder() / "moto.json").write_text(note)  # as if the keeper had been killed, and we had got its number
    assert state.find("moto") is None
    assert not state.end(running("moto", pid=os.getpid()))


def test_a_second_keeper_of_one_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "LOCK_TIMEOUT", 0.1)
    with state.keep("moto"), pytest.raises(state.EmulatorError, match="moto is already running"), state.keep("moto"):
        pass


def test_configured_storages_have_distinct_names() -> None:
    found = tomllib.loads(
        client_settings.toml([running("moto", "one", "two"), running("seaweedfs"), running("azurite")])
    )
    assert found["default"] == "moto"
    assert {name: table.get("name") for name, table in found["storages"].items()} == {
        "moto": None,
        "moto_two": "local.moto_two@v1",
        "seaweedfs": "local.seaweedfs@v1",
        "azurite": None,
    }


def test_exports_point_to_one_server_of_a_cloud() -> None:
    environment = client_settings.merged_environment([running("azurite"), running("moto")])
    assert environment["LAKERY_CLOUD_STORAGE"] == "az://bucket"
    assert {"AZURE_STORAGE_CONNECTION_STRING", "AWS_ENDPOINT_URL_S3"} < environment.keys()
    with pytest.raises(ConfigError, match="moto and seaweedfs both serve S3"):
        client_settings.merged_environment([running("moto"), running("seaweedfs")])


@pytest.mark.parametrize(
    ("names", "options", "saying"),
    [
        ((), {}, "no server given"),
        (("moot",), {}, "unknown server 'moot'; did you mean 'moto'?"),
        (("moto",), {"bucket": ("My_Bucket",)}, "3 to 63 lower-case letters"),
        (("moto",), {"port": ("http",)}, "a port is a number from 1 to 65535"),
        (("moto",), {"port": ("65536",)}, "a port is a number from 1 to 65535"),
        (("moto",), {"port": ("azurite=1",)}, "this command does not start 'azurite'"),
        (("moto", "azurite"), {"port": ("1",)}, "--port 1: add the server's name, such as moto=1"),
        (("moto", "azurite"), {"port": ("moto=1", "azurite=1")}, "two servers have the same port"),
    ],
)
def test_what_cannot_be_meant_starts_nothing(names: tuple[str, ...], options: dict[str, Any], saying: str) -> None:
    with pytest.raises(ConfigError) as caught:
        emulators.up(*names, **options)
    assert saying in str(caught.value)
    assert running_names() == []


def test_without_a_network_it_ends_and_names_the_installation(tmp_path: Path) -> None:
    index = "http://127.0.0.1:9/simple"  # the port of a service that no machine has any more: connections are refused
    done = run(
        *("emulators", "up", "azurite", "--detach"),
        LAKERY_CLOUD_CACHE=str(tmp_path / "cache"),
        PIP_INDEX_URL=index,
        PIP_EXTRA_INDEX_URL="",
        PIP_FIND_LINKS="",
    )
    assert done.returncode == 1, done.stderr
    assert "cannot be installed" in done.stderr
    assert index.removesuffix("/simple") in done.stderr
    assert "Traceback" not in done.stderr
    assert state.find("azurite") is None


def test_launcher_of_localstack_takes_the_options_of_the_command() -> None:
    launcher = Path(__file__).parents[2] / "localstack" / "launch.py"
    done = subprocess.run([sys.executable, launcher, "--bucket", "My_Bucket"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "the bucket name 'My_Bucket' is invalid" in done.stderr


def test_env_and_down_without_servers_advise_to_start_one() -> None:
    done = run("emulators", "env")
    assert (done.returncode, done.stdout) == (2, "")
    assert "ConfigError: no server is running; start one with `lakery-cloud emulators up moto -d`" in done.stderr
    with pytest.raises(ConfigError, match="azurite is not running"):
        emulators.env("azurite")


def running(name: str, *buckets: str, pid: int = 1) -> Running:
    """A note of a server."""
    url = "http://127.0.0.1:12345"
    return Running(name, pid, url, buckets or ("bucket",), None, background=True, since="2026-01-01T00:00:00+00:00")
