"""The command on a storage, whatever its cloud: what every cloud's tests call."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from lakery_cloud.testing import Rig

COMMAND = [sys.executable, "-c", "from lakery_cloud.cli.main import main; main()"]
README = Path(__file__).parent.parent.parent / "README.md"


def lakery_cloud(*arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the command."""
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, check=False, timeout=60, **options)


async def check_commands(rig: Rig, url: str, folder: Path) -> None:
    """A file goes to its SHA-256 below the URL's prefix `x` and comes back, is listed, described and deleted."""
    put = lakery_cloud("put", README, "--tag", "kind=readme", "--storage", url)
    assert (put.returncode, put.stderr) == (0, b"")
    content_hash = hashlib.sha256(README.read_bytes()).hexdigest()
    assert await rig.keys() == [f"x/{content_hash}"]
    stored = await rig.get(f"x/{content_hash}")
    assert stored is not None
    assert (stored.content_type, stored.tags) == ("text/markdown", {"kind": "readme"})
    for target in (put.stdout.decode(), content_hash):
        got = lakery_cloud("get", target, "-o", folder / "got", "--storage", url)
        assert (got.returncode, got.stderr) == (0, b"")
        assert (folder / "got").read_bytes() == README.read_bytes()
    listed = json.loads(lakery_cloud("ls", "--json", "--storage", url).stdout)
    assert (listed["content_hash"], listed["content_size"]) == (content_hash, README.stat().st_size)
    described = json.loads(lakery_cloud("stat", content_hash, "--json", "--storage", url).stdout)
    assert (described["tags"], described["content_type"]) == ({"kind": "readme"}, "text/markdown")
    assert lakery_cloud("rm", "--dry-run", content_hash, "--storage", url).returncode == 0
    assert await rig.keys() == [f"x/{content_hash}"]
    assert lakery_cloud("rm", content_hash, "--storage", url).returncode == 0
    assert await rig.keys() == []
    assert lakery_cloud("get", content_hash, "--storage", url).returncode == 3
