"""The demo of `make demo`."""

import os
import subprocess
import sys

from benchmarks.null_server import REPOSITORY


def test_demo_verifies_sends_nothing_twice_and_leaves_nothing() -> None:
    command, wide = [sys.executable, "-m", "benchmarks.demo", "docs"], {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, cwd=REPOSITORY, env=wide, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("every hash is right") == 2
    assert done.stdout.count("nothing is left") == 2
    assert "0 bytes written, 0 new objects" in done.stdout
    assert "0 bytes sent, 0 new objects" in done.stdout
