"""Runs S3's tests on the newest aiobotocore, in an environment of its own: `python -m tests.aiobotocore [options]`."""

import os
import subprocess
import sys
from pathlib import Path

from lakery_cloud.emulators.install import Environment

ROOT = Path(__file__).parents[1]
NEWEST = Environment("aiobotocore-3", constraints=ROOT / "constraints", group="tests")
TESTS = ("tests/conformance", "tests/s3", "tests/stores", "tests/unit/test_s3_signing.py")
PAIRS = "not (s3-moto or s3-localstack or gcs or azure or [memory] or [file])"
"""Of the local servers of S3, only SeaweedFS and the doubles. The environment has no moto."""


def pytest_command(*options: str) -> list[str]:
    """The command that runs pytest in the environment, which is made if needed."""
    NEWEST.install(lambda text: print(text, file=sys.stderr))
    # The package is not installed there, so neither is its entry point.
    return [
        str(NEWEST.executable("python")),
        "-m",
        "pytest",
        "-p",
        "lakery_cloud.testing.plugin",
        "-p",
        "no:cacheprovider",
        *options,
    ]


def variables() -> dict[str, str]:
    """The variables of the command: ours, without those of a running pytest, and the folder of the package."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return {**ours, "PYTHONPATH": str(ROOT / "src")}


if __name__ == "__main__":
    command = pytest_command(*TESTS, "-k", PAIRS, *sys.argv[1:])
    sys.exit(subprocess.run(command, cwd=ROOT, env=variables()).returncode)
