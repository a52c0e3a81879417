"""Real accounts, and servers that someone else starts: the variables that name them, and the reasons for skipped tests.

A live rig works below a random root in the given bucket, finds credentials as the storage does, and at its end removes all
objects and uploads below that root.
"""

import os
from collections.abc import Mapping

LIVE = "LAKERY_CLOUD_LIVE"
BUCKET_VARIABLES: Mapping[str, str] = {
    "s3": "LAKERY_CLOUD_LIVE_S3_BUCKET",
    "gcs": "LAKERY_CLOUD_LIVE_GCS_BUCKET",
    "azure": "LAKERY_CLOUD_LIVE_AZURE_CONTAINER",
}
"""Cloud -> the variable that names a bucket which tests may write to."""

GCS_TESTBENCH = "LAKERY_CLOUD_GCS_TESTBENCH"
"""The variable with the URL of Google's storage-testbench, which no registry has."""


def is_live() -> bool:
    """Whether the tests run against real accounts, too."""
    return os.environ.get(LIVE) == "1"


def why_not_live(cloud: str) -> str | None:
    """What to set so that the tests run against an account of the cloud; None if they do."""
    missing = [name for name in (LIVE, BUCKET_VARIABLES[cloud]) if not os.environ.get(name)]
    if os.environ.get(LIVE) not in (None, "", "1"):
        return f"{LIVE} is not 1"
    if not missing:
        return None
    return (
        f"to run it against a real account set {LIVE}=1 and {BUCKET_VARIABLES[cloud]}; missing: {' and '.join(missing)}"
    )


def bucket_of(cloud: str) -> str:
    """The bucket that tests may write to."""
    return os.environ[BUCKET_VARIABLES[cloud]]
