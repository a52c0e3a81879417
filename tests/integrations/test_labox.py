"""labox saves and loads its storables by our storages, in a process with labox and the packages that it needs."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import rig_on
from tests.helpers import PATIENCE
from tests.integrations.packages import Packages
from tests.rigs.base import CloudRig
from tests.rigs.pairs import LOCAL_PAIRS, PROFILE_PAIRS

HERE = Path(__file__).parent

cloud_rig = rig_on(
    *(pair for pair in (*PROFILE_PAIRS, *LOCAL_PAIRS) if pair.name in ("s3-moto", "gcs-strict", "azure-azurite"))
)


@pytest.fixture(scope="module")
def labox() -> Packages:
    packages = Packages("labox")
    packages.install()
    return packages


async def run(labox: Packages, *arguments: str, **variables: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        HERE / "labox_round_trips.py",
        *arguments,
        env={**labox.environment, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        printed, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    found: dict[str, Any] = json.loads(printed)
    return found


async def test_labox_saves_and_loads_in_each_cloud(labox: Packages, cloud_rig: CloudRig) -> None:
    theirs = [cloud_rig.server_url] if cloud_rig.storage_class.url_scheme == "s3" else []
    found = await run(labox, cloud_rig.url(part_size=cloud_rig.part_size), *theirs)
    assert found["loaded"] == [True, True], "a value, and a stream of several parts"
    assert found["crossed"] == [True] * 4, "values and streams, each read as a value and as a stream"
    assert found["names"] == [cloud_rig.storage_class.name]
    assert found["stored"] == 2, "equal content is stored once"
    assert found["readers"] == list(cloud_rig.storage_class.aliases), "they refuse to save"
    for data in map(json.loads, found["data"]):
        assert data["hash"].startswith("sha256:")
    assert found.get("theirs") == ([True, True] if theirs else None), "what labox's own storage has written"
    await cloud_rig.check_nothing_temporary()


async def test_labox_saves_and_loads_in_a_folder(labox: Packages, tmp_path: Path) -> None:
    found = await run(labox, (tmp_path / "blobs").as_uri())
    assert found["loaded"] == [True, True]
    assert found["crossed"] == [True] * 4
    assert found["names"] == ["lakery_cloud.file@v1"]
    assert found["stored"] == 2
