"""The command on `az://` URLs."""

from pathlib import Path

from tests.azure.rigs import AzureRig
from tests.cli.commands import check_commands, lakery_cloud


async def test_commands(azure_rig: AzureRig, tmp_path: Path) -> None:
    await check_commands(azure_rig, f"az://{azure_rig.container}/x", tmp_path)


async def test_missing_container_exits_3(azure_rig: AzureRig) -> None:
    failed = lakery_cloud("put", "-", "--storage", "az://not-there", input=b"data")
    assert (failed.returncode, failed.stderr.count(b"\n")) == (3, 1)
    assert failed.stderr.startswith(b"BucketNotFound: ")
