"""Processes that write, read and delete the same content in a folder never see another error than the library's own."""

import asyncio
import os
import shutil
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lakery_cloud import FileStorage, LakeryCloudError
from lakery_cloud.providers.file.root import make_root
from lakery_cloud.testing import content
from tests.attack.cases import SEED, TIMES, counted
from tests.helpers import write, write_stream
from tests.security.folder_racer import OPERATIONS

ROOT = Path(__file__).parents[2]
PROCESSES = 3
ROUNDS = 40
WRITERS = 8


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


def test_writers_make_their_folder_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(WRITERS)

    def make(number: int) -> None:
        together.wait()
        make_root(tmp_path / f"above{number}" / "root")

    with ThreadPoolExecutor(WRITERS) as writers:
        for number in range(200):
            assert list(writers.map(make, [number] * WRITERS)) == [None] * WRITERS


@pytest.mark.parametrize("part", ["above", "above/blobs", "above/blobs/prefix", "above/blobs/prefix/.tmp"])
async def test_folder_that_is_removed_during_writes_is_unavailable(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    root, ended = tmp_path / "above/blobs", threading.Event()

    def remove() -> None:
        while not ended.wait(0.001):
            shutil.rmtree(tmp_path / part, ignore_errors=True)

    remover = threading.Thread(target=remove)
    remover.start()
    refused: Counter[str] = Counter()
    async with FileStorage(root, prefix="prefix", part_size=4096) as storage:

        async def attempt(number: int) -> None:
            data = content(5000, seed=number)
            try:
                await (write_stream if number % 2 else write)(storage, data)
            except LakeryCloudError as error:
                refused[type(error).__name__] += 1

        try:
            for start in range(0, 100, 5):
                await asyncio.gather(*(attempt(start + number) for number in range(5)))
        finally:
            ended.set()
            remover.join()
    assert refused["StorageUnavailable"]
    # A temporary object that is gone after all its bytes were written is damage on each store.
    assert set(refused) <= {"StorageUnavailable", "IntegrityError"}, refused
    assert "No such file" not in caplog.text, "a file that is gone is no missing feature of the file system"
