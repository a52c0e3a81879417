"""`doctor` and `url` on the command line."""

import asyncio
import json
import socket
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lakery_cloud.emulators.servers.seaweedfs import READER
from lakery_cloud.maintenance import CHECKS
from tests.cli.shell import CONTENT, HASH, Shell, assert_fails
from tests.helpers import run_command
from tests.rigs.s3 import S3Rig


@pytest.fixture
def closed_url() -> Any:
    """The URL of a storage on a bound port without a listener."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"s3://bucket?region=us-east-1&endpoint_url=http://127.0.0.1:{taken.getsockname()[1]}"


def fetch(
    url: str, data: bytes | None = None, headers: Mapping[str, str] | None = None, *, method: str = "GET"
) -> bytes:
    """Send a request without credentials, and return the body of the response."""
    request = urllib.request.Request(url, data=data, headers=dict(headers or {}), method=method)
    with urllib.request.urlopen(request) as answer:
        return bytes(answer.read())


def test_doctor_prints_a_table_of_passed_checks(shell: Shell) -> None:
    shell.put()
    done = shell.run("doctor")
    assert (done.returncode, done.stderr) == (0, b"")
    url, *lines = done.stdout.decode().splitlines()
    assert url == shell.url()
    assert {line[0] for line in lines} <= {"✓", "-", " "}  # a row may take two lines
    assert [check for check in CHECKS if any(f"  {check}  " in line for line in lines)] == [*CHECKS[4:]]
    assert shell.stored() == [HASH]


def test_doctor_prints_findings_as_json(shell: Shell) -> None:
    done = shell.run("doctor", "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    assert [finding["check"] for finding in findings] == [*CHECKS[4:]]
    assert findings[0] == {
        "storage": shell.url(),
        "check": "bucket",
        "result": "ok",
        "seen": f"{str(shell.objects)!r} will be created by the first write",
        "advice": None,
        "error": None,
        "measured": {},
    }
    (measured,) = [finding["measured"] for finding in findings if finding["check"] == "throughput"]
    assert measured.keys() == {"put_bytes_per_second", "get_bytes_per_second"}


def test_quiet_doctor_prints_no_passed_checks(shell: Shell) -> None:
    done = shell.run("doctor", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_doctor_of_several_storages_exits_with_the_gravest_code(shell: Shell, closed_url: str) -> None:
    nowhere = f"{(shell.folder / 'nowhere').as_uri()}?create=false"
    credentials = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "s3cr3t"}
    assert_fails(shell.run("doctor", "-q", nowhere), 3, "BucketNotFound", saying="1 of 1 check failed: bucket")
    done = shell.run("doctor", "--quiet", closed_url, shell.url(), nowhere, **credentials)
    assert done.returncode == 3
    assert "BucketNotFound: 2 of 23 checks failed: reach, bucket" in done.stderr.decode()
    printed = done.stdout.decode()
    assert "check endpoint_url and the network" in printed
    assert shell.url() + "\n" not in printed
    assert "s3cr3t" not in printed + done.stderr.decode()


def test_doctor_refuses_a_url_that_is_none_before_it_looks_at_others(shell: Shell) -> None:
    assert_fails(shell.run("doctor", shell.url(), "s4://bucket"), 2, "ConfigError", saying="s4")
    assert not shell.objects.exists()


async def test_doctor_names_the_right_that_is_missing_and_exits_4(
    seaweedfs_rig: S3Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER[1])
    done = run_command("doctor", "--quiet", seaweedfs_rig.url())
    assert_fails(done, 4, "AccessDenied: 3 of 24 checks failed: put, multipart, delete")
    assert b"Grant s3:PutObject" in done.stdout


async def test_url_gets_and_puts_content_without_credentials(seaweedfs_rig: S3Rig, tmp_path: Path) -> None:
    storage = ("--storage", seaweedfs_rig.url("x"))
    path = tmp_path / "file.txt"
    path.write_bytes(CONTENT)
    put = json.loads(run_command("url", path, "--put", "--json", *storage).stdout)
    assert (put["method"], put["pins_content"]) == ("PUT", True)
    assert await seaweedfs_rig.keys() == []
    assert await asyncio.to_thread(fetch, put["url"], CONTENT, put["headers"], method="PUT") == b""
    assert await seaweedfs_rig.keys() == [f"x/{HASH}"]
    got = run_command("url", HASH, "--expires", "15m", *storage)
    assert (got.returncode, got.stderr) == (0, b"")
    assert await asyncio.to_thread(fetch, got.stdout.decode().strip()) == CONTENT
    shown = run_command("url", json.dumps(put["record"]), "--put", *storage)
    assert shown.stdout.startswith(b"http")
    assert [line.split(":")[0] for line in shown.stderr.decode().splitlines()] == [
        f"-H '{name}" for name in put["headers"]
    ]


def test_url_of_a_folder_is_refused(shell: Shell) -> None:
    record = json.dumps(shell.put())
    assert_fails(shell.run("url", record), 2, "ConfigError", saying="has no URLs")


def test_url_to_put_needs_an_existing_file(shell: Shell) -> None:
    assert_fails(shell.run("url", "--put", "nowhere.txt"), 2, "ConfigError", saying="no file 'nowhere.txt' exists")


async def test_url_that_would_last_too_long_is_refused(seaweedfs_rig: S3Rig, tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(CONTENT)
    done = run_command("url", path, "--put", "--expires", "8d", "--storage", seaweedfs_rig.url())
    assert_fails(done, 2, "ConfigError: a URL lasts from a second to 7 days")
