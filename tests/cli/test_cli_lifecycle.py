"""`lifecycle` on the command line: it prints rules unless `--apply` is given, and advises if the store can't set them."""

import json
from typing import Any

import pytest

from lakery_cloud.maintenance import lifecycle_rules
from tests.cli.shell import Shell, assert_fails, lines_of
from tests.helpers import run_command
from tests.rigs.azure import AzureRig
from tests.rigs.base import CloudRig
from tests.rigs.pairs import LOCAL_PAIRS, params
from tests.rigs.s3 import S3Rig

TWO = params(pair for pair in LOCAL_PAIRS if pair.name in ("s3-seaweedfs", "gcs-strict"))


def rules_of(rig: CloudRig, **options: int) -> Any:
    return lifecycle_rules(rig.storage(prefix="x"), **options)


@pytest.mark.parametrize(
    ("url", "first"),
    [
        ("s3://my-bucket/x", "Rules"),
        ("gs://my-bucket/x", "rule"),
        ("az://my-container/x", "rules"),
    ],
)
def test_rules_are_printed_without_credentials(tmp_path: Any, url: str, first: str) -> None:
    shell = Shell(tmp_path)
    done = shell.run("lifecycle", "--storage", url)
    assert (done.returncode, lines_of(done.stderr)) == (0, ["nothing was changed; add --apply to set these rules"])
    assert list(json.loads(done.stdout)) == [first]
    in_json = shell.run("lifecycle", "--storage", url, "--json")
    assert (in_json.returncode, in_json.stderr, in_json.stdout.count(b"\n")) == (0, b"", 1)
    assert json.loads(in_json.stdout) == {"result": "would be set", "rules": json.loads(done.stdout)}


@pytest.mark.parametrize("cloud_rig", TWO, indirect=True)
def test_rules_are_set_with_apply(cloud_rig: CloudRig) -> None:
    url = cloud_rig.url("x")
    done = run_command("lifecycle", "--apply", "--days", "3", "--storage", url)
    assert (done.returncode, lines_of(done.stderr)) == (0, ["set these rules"])
    assert json.loads(done.stdout) == rules_of(cloud_rig, days=3)
    again = run_command("lifecycle", "--apply", "--days", "3", "--storage", url)
    said = ["the bucket already has these rules; nothing was changed"]
    assert (again.returncode, again.stdout, lines_of(again.stderr)) == (0, b"", said)


@pytest.mark.parametrize("cloud_rig", TWO, indirect=True)
def test_json_describes_the_changes(cloud_rig: CloudRig) -> None:
    for result in ("set", "there already"):
        done = run_command("lifecycle", "--apply", "--json", "--storage", cloud_rig.url("x"))
        assert (done.returncode, done.stderr) == (0, b"")
        assert json.loads(done.stdout) == {"result": result, "rules": rules_of(cloud_rig)}


async def test_rules_are_only_printed_without_apply(seaweedfs_rig: S3Rig) -> None:
    assert run_command("lifecycle", "--storage", seaweedfs_rig.url("x")).returncode == 0
    with pytest.raises(seaweedfs_rig._client.exceptions.ClientError, match="NoSuchLifecycleConfiguration"):
        await seaweedfs_rig._client.get_bucket_lifecycle_configuration(Bucket=seaweedfs_rig.bucket)


def test_missing_bucket_exits_3(seaweedfs_rig: S3Rig) -> None:
    done = run_command("lifecycle", "--apply", "--storage", seaweedfs_rig.url("x", bucket="nowhere-at-all"))
    assert_fails(done, 3, "BucketNotFound: ")


def test_azure_names_its_own_command_and_exits_2(azure_rig: AzureRig) -> None:
    done = run_command("lifecycle", "--apply", "--storage", azure_rig.url("x"))
    assert_fails(done, 2, "ConfigError: ")
    assert b"az storage account management-policy create --account-name" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["--apply"], ["--json"]])
def test_folder_names_sweep_and_exits_2(tmp_path: Any, arguments: list[str]) -> None:
    assert_fails(Shell(tmp_path).run("lifecycle", *arguments), 2, "ConfigError", saying="run `lakery-cloud sweep`")


@pytest.mark.parametrize("days", ["0", "-3"])
def test_days_that_are_none_exit_2(tmp_path: Any, days: str) -> None:
    done = Shell(tmp_path).run("lifecycle", f"--days={days}", "--storage", "s3://my-bucket/x")
    assert_fails(done, 2, "ConfigError", saying="days must be a whole number of at least 1")


def test_days_that_are_no_number_exit_2(tmp_path: Any) -> None:
    done = Shell(tmp_path).run("lifecycle", "--days=soon", "--storage", "s3://my-bucket/x")
    assert (done.returncode, done.stdout) == (2, b"")
