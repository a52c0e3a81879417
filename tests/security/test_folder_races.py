"""Processes that write, read and delete the same content in a folder never see another error than the library's own."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.attack.cases import SEED, TIMES, counted
from tests.security.folder_racer import OPERATIONS

ROOT = Path(__file__).parents[2]
PROCESSES = 3
ROUNDS = 40


@pytest.mark.timeout(600)
async def test_racing_processes_see_neither_wrong_content_nor_false_errors(tmp_path: Path) -> None:
    async def race(seed: int) -> bytes:
        command = (sys.executable, "-m", "tests.security.folder_racer", str(tmp_path), str(seed), str(ROUNDS * TIMES))
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env=os.environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        printed, _ = await process.communicate()
        return printed.strip()

    assert await asyncio.gather(*map(race, range(SEED, SEED + PROCESSES))) == [b""] * PROCESSES
    assert list(tmp_path.glob(".tmp/*")) == []
    counted["operations of processes in one folder"] += PROCESSES * ROUNDS * TIMES * OPERATIONS
