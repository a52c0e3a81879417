"""Earlier code of lakery-cloud, from the history of this repository, to compare today's with.

It needs the standard library alone: clients import it in environments of their own.
"""

import io
import subprocess
import tarfile
from pathlib import Path

from benchmarks.null_server import REPOSITORY
from benchmarks.peers.base import Unavailable

BEFORE_COLD_STARTS = "814c0c60593e6e0e53b40f4760b986a3e76bfa90"
"""The last commit in which a command imported its modules at once."""
BEFORE_WHOLE_BUCKETS = "ca6874b1d6cc68a0c0a2848ff9946a04efd6a633"
"""The last commit before shards, engines and inventories."""


def extract(commit: str, folder: Path) -> Path:
    """Write the source of a commit below a folder, and return its root for `PYTHONPATH`.

    Raises:
        Unavailable: The commit is not there, such as in a shallow clone.
    """
    command = ["git", "archive", commit, "src"]
    try:
        archive = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True).stdout  # noqa: S603, a commit above
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(f"commit {commit[:7]} is not in the history of this repository") from error
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder / "src"
