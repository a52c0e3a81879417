"""The command on every storage that has a URL: a round trip through a real server, and the errors that a user meets."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from lakery_cloud.testing import content
from tests.cli.shell import CONTENT, HASH, assert_fails
from tests.conftest import rig_on
from tests.helpers import run_command
from tests.rigs.base import CloudRig
from tests.rigs.local import FileRig
from tests.rigs.pairs import one_server_a_cloud
from tests.rigs.s3 import S3Rig

README = Path(__file__).parent.parent.parent / "README.md"

UrlRig = FileRig | CloudRig
url_rig = rig_on(*one_server_a_cloud("file"))


async def test_file_is_put_got_listed_described_and_deleted(url_rig: UrlRig, tmp_path: Path) -> None:
    url = url_rig.url("x")
    put = run_command("put", README, "--tag", "kind=readme", "--storage", url)
    assert (put.returncode, put.stderr) == (0, b"")
    content_hash = hashlib.sha256(README.read_bytes()).hexdigest()
    assert await url_rig.keys() == [f"x/{content_hash}"]
    stored = await url_rig.get(f"x/{content_hash}")
    assert stored is not None
    assert (stored.content_type, stored.tags) == ("text/markdown", {"kind": "readme"})
    for target in (put.stdout.decode(), content_hash):
        got = run_command("get", target, "-o", tmp_path / "got", "--storage", url)
        assert (got.returncode, got.stderr) == (0, b"")
        assert (tmp_path / "got").read_bytes() == README.read_bytes()
    listed = json.loads(run_command("ls", "--json", "--storage", url).stdout)
    assert (listed["content_hash"], listed["size"]) == (content_hash, README.stat().st_size)
    described = json.loads(run_command("stat", content_hash, "--json", "--storage", url).stdout)
    assert (described["tags"], described["content_type"]) == ({"kind": "readme"}, "text/markdown")
    assert run_command("rm", "--dry-run", content_hash, "--storage", url).returncode == 0
    assert await url_rig.keys() == [f"x/{content_hash}"]
    assert run_command("rm", content_hash, "--storage", url).returncode == 0
    assert await url_rig.keys() == []
    assert_fails(run_command("get", content_hash, "--storage", url), 3, "NoStorageData: ")


async def test_large_file_is_sent_once(url_rig: UrlRig, tmp_path: Path) -> None:
    url = url_rig.url("x", part_size=url_rig.part_size)
    data = content(url_rig.part_size * 4)
    (tmp_path / "large").write_bytes(data)
    first = run_command("put", tmp_path / "large", "--storage", url)
    assert first.returncode == 0
    stored = await url_rig.get(f"x/{hashlib.sha256(data).hexdigest()}")
    assert stored is not None
    assert stored.data == data
    assert run_command("put", tmp_path / "large", "--storage", url).stdout == first.stdout
    assert run_command("get", first.stdout.decode(), "--storage", url).stdout == data
    await url_rig.check_nothing_temporary()


@pytest.mark.parametrize(
    "line", ["put -", f"get {HASH}", "ls", "verify", "sweep", "inventory", "copy URL URL", "copy URL ./copy"]
)
async def test_missing_bucket_is_one_line_and_exits_3(
    url_rig: UrlRig, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = url_rig.elsewhere().keys.bucket
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAKERY_CLOUD_STORAGE", url_rig.url(bucket=missing))
    words = line.replace("URL", os.environ["LAKERY_CLOUD_STORAGE"]).split()
    done = run_command(*words, *(["--quiet"] if words[0] not in ("get", "put") else []), data=CONTENT)
    assert_fails(done, 3, "BucketNotFound: ")
    assert f" '{missing}' does not exist" in done.stderr.decode()


async def test_damaged_content_is_one_line_and_exits_5(url_rig: UrlRig) -> None:
    await url_rig.put(HASH, CONTENT[::-1])
    done = run_command("get", HASH, "--storage", url_rig.url())
    assert_fails(done, 5, "IntegrityError: ")
    assert done.stdout == b""


async def test_something_else_at_the_content_key_stays_and_exits_5(url_rig: UrlRig) -> None:
    await url_rig.put(HASH, b"not yours")
    assert_fails(run_command("put", "-", "--storage", url_rig.url(), data=CONTENT), 5, "IntegrityError: ")
    stored = await url_rig.get(HASH)
    assert stored is not None
    assert stored.data == b"not yours"


@pytest.mark.parametrize(
    ("environment", "exit_code", "error"),
    [
        ({"AWS_ACCESS_KEY_ID": ""}, 4, "CredentialsError: no credentials"),
        (
            {"AWS_PROFILE": "nobody"},
            2,
            "ConfigError: the AWS configuration can't be used: The config profile (nobody) could not be found",
        ),
    ],
)
async def test_s3_without_credentials_is_one_line_with_its_exit_code(
    s3_rig: S3Rig, environment: dict[str, str], exit_code: int, error: str
) -> None:
    failed = run_command("put", "-", "--storage", s3_rig.url(), data=b"data", env={**os.environ, **environment})
    assert_fails(failed, exit_code, error)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("az://container", "CredentialsError: no storage account"),
        ("s3://bucket?region=us-east-1", "CredentialsError: no credentials"),
    ],
)
def test_nothing_in_the_environment_is_one_line_and_exits_4(url: str, error: str) -> None:
    assert_fails(run_command("put", "-", "--storage", url, data=CONTENT), 4, error)
