"""The command on S3: a round trip through a real server, and the errors that a user meets."""

import json
import os
from pathlib import Path

import pytest

from lakery_cloud.testing import content
from tests.cli.commands import check_commands, lakery_cloud
from tests.rigs import MiB, S3Rig


@pytest.fixture
def url(s3_rig: S3Rig) -> str:
    return f"s3://{s3_rig.bucket}/x?endpoint_url={s3_rig.endpoint_url}&region=us-east-1"


async def test_commands(s3_rig: S3Rig, url: str, tmp_path: Path) -> None:
    await check_commands(s3_rig, url, tmp_path)


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
