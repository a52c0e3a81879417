"""The command on S3: a round trip through a real server, and the errors that a user meets."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lakery_cloud.testing import content
from tests.rigs import MiB, S3Rig

COMMAND = [sys.executable, "-c", "from lakery_cloud.cli.main import main; main()"]
README = Path(__file__).parent.parent.parent / "README.md"


def lakery_cloud(*arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, check=False, timeout=60, **options)


@pytest.fixture
def url(s3_rig: S3Rig) -> str:
    return f"s3://{s3_rig.bucket}/x?endpoint_url={s3_rig.endpoint_url}&region=us-east-1"


async def test_file_round_trip_lies_at_its_sha256(s3_rig: S3Rig, url: str, tmp_path: Path) -> None:
    put = lakery_cloud("put", README, "--tag", "kind=readme", "--storage", url)
    assert (put.returncode, put.stderr) == (0, b"")
    content_hash = hashlib.sha256(README.read_bytes()).hexdigest()
    assert await s3_rig.keys() == [f"x/{content_hash}"]
    stored = await s3_rig.get(f"x/{content_hash}")
    assert stored is not None
    assert (stored.content_type, stored.tags) == ("text/markdown", {"kind": "readme"})
    for target in (put.stdout.decode(), content_hash):
        got = lakery_cloud("get", target, "-o", tmp_path / "got", "--storage", url)
        assert (got.returncode, got.stderr) == (0, b"")
        assert (tmp_path / "got").read_bytes() == README.read_bytes()


async def test_large_file_is_sent_once(s3_rig: S3Rig, url: str, tmp_path: Path) -> None:
    data = content(20 * MiB)
    (tmp_path / "large").write_bytes(data)
    first = lakery_cloud("put", tmp_path / "large", "--storage", url)
    assert first.returncode == 0
    stored = await s3_rig.get(json.loads(json.loads(first.stdout)["storage_data"])["key"])
    assert stored is not None
    assert stored.data == data
    assert lakery_cloud("put", tmp_path / "large", "--storage", url).stdout == first.stdout
    assert lakery_cloud("get", first.stdout.decode(), "--storage", url).stdout == data
    await s3_rig.check_nothing_temporary()


async def test_ls_stat_and_rm(s3_rig: S3Rig, url: str) -> None:
    record = json.loads(lakery_cloud("put", "-", "--tag", "a=b", "--storage", url, input=b"data").stdout)
    content_hash = record["content_hash"]
    listed = json.loads(lakery_cloud("ls", "--json", "--storage", url).stdout)
    assert (listed["content_hash"], listed["content_size"]) == (content_hash, 4)
    stat = json.loads(lakery_cloud("stat", content_hash, "--json", "--storage", url).stdout)
    assert (stat["tags"], stat["content_size"], stat["bucket"]) == ({"a": "b"}, 4, s3_rig.bucket)
    assert lakery_cloud("rm", "--dry-run", content_hash, "--storage", url).returncode == 0
    assert await s3_rig.keys() == [f"x/{content_hash}"]
    assert lakery_cloud("rm", content_hash, "--storage", url).returncode == 0
    assert await s3_rig.keys() == []


@pytest.mark.parametrize(
    ("bucket", "environment", "exit_code", "error"),
    [
        ("not-there", {}, 3, "BucketNotFound: the bucket 'not-there' is not there"),
        (None, {"AWS_ACCESS_KEY_ID": ""}, 4, "CredentialsError: no credentials"),
        (None, {"AWS_PROFILE": "nobody"}, 2, "ConfigError: The config profile (nobody) could not be found"),
    ],
)
async def test_error_is_one_line_with_its_exit_code(
    s3_rig: S3Rig, bucket: str | None, environment: dict[str, str], exit_code: int, error: str
) -> None:
    url = f"s3://{bucket or s3_rig.bucket}?endpoint_url={s3_rig.endpoint_url}&region=us-east-1"
    failed = lakery_cloud("put", "-", "--storage", url, input=b"data", env={**os.environ, **environment})
    assert failed.returncode == exit_code
    assert failed.stderr.decode().startswith(error)
    assert failed.stderr.count(b"\n") == 1
