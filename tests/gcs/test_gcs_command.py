"""The command on `gs://` URLs."""

from pathlib import Path

from tests.cli.commands import check_commands, lakery_cloud
from tests.gcs.rigs import GCSRig


async def test_commands(gcs_rig: GCSRig, tmp_path: Path) -> None:
    await check_commands(gcs_rig, f"gs://{gcs_rig.bucket}/x?endpoint_url={gcs_rig.endpoint_url}", tmp_path)


async def test_missing_bucket_exits_3(gcs_rig: GCSRig) -> None:
    url = f"gs://not-there?endpoint_url={gcs_rig.endpoint_url}"
    failed = lakery_cloud("put", "-", "--storage", url, input=b"data")
    assert (failed.returncode, failed.stderr.count(b"\n")) == (3, 1)
    assert failed.stderr.startswith(b"BucketNotFound: ")
