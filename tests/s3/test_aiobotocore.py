"""S3's conformance suite on the newest aiobotocore. `make test-aiobotocore` runs all of S3's tests on it."""

import subprocess
from importlib import metadata

import pytest

from tests.aiobotocore import ROOT, pytest_command, variables


@pytest.mark.skipif(metadata.version("aiobotocore").startswith("3."), reason="runs on it already")
def test_conformance_on_the_newest_aiobotocore() -> None:
    command = pytest_command("-q", "tests/conformance", "-k", "s3-aws]")
    done = subprocess.run(command, cwd=ROOT, env=variables(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
