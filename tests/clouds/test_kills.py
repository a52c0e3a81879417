"""A writer that is killed at any step leaves no partial content, and nothing that `sweep` doesn't find."""

import asyncio
import signal
import subprocess
import sys
import textwrap
from datetime import timedelta

import pytest

from lakery_cloud import S3Storage
from lakery_cloud.maintenance import leftovers, sweep
from lakery_cloud.testing import content, digest_of
from tests.helpers import PATIENCE, write
from tests.rigs.base import PairRig
from tests.rigs.beside import KILLED_PAIRS, BesideRig
from tests.rigs.pairs import PAIRS, on_each, params

PROGRAM = """
    import asyncio, os, signal, sys

    from lakery_cloud import storage_from_url
    from lakery_cloud.testing import content, stream_of, tap

    async def main(url, moment, operation, nth, size):
        storage = storage_from_url(url)

        async def die():
            os.kill(os.getpid(), signal.SIGKILL)

        getattr(tap(storage), moment)(operation, die, nth=int(nth))
        async with storage:
            stream = stream_of([content(int(size))])
            await storage.write_data_stream(stream, stream.get_digest, {})

    asyncio.run(main(*sys.argv[1:]))
"""

MOMENTS = [
    ("after", "upload_part", 3),
    ("after", "begin_upload", 1),
    ("before", "upload_part", 2),
    ("after", "complete_upload", 1),
    ("before", "copy", 1),
    ("after", "copy", 1),
]


def run(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), *arguments]
    return subprocess.run(command, timeout=PATIENCE, capture_output=True, check=False)


@pytest.mark.case("20")
@on_each(
    "url_rig",
    [pair for pair in PAIRS if pair.name != "memory"],
    "moment, operation, nth",
    MOMENTS,
    ids=lambda row: "-".join(map(str, row)),
)
async def test_killed_writer_leaves_nothing_that_sweep_does_not_find(
    url_rig: PairRig, moment: str, operation: str, nth: int
) -> None:
    await _kill_and_sweep(url_rig, moment, operation, nth)


@pytest.mark.case("20")
@pytest.mark.case("55")
@pytest.mark.parametrize("url_rig", params(KILLED_PAIRS), indirect=True)
async def test_killed_writer_leaves_nothing_that_sweep_does_not_find_in_either_bucket(url_rig: BesideRig) -> None:
    if url_rig.storage_class is S3Storage:
        await _kill_and_sweep(url_rig, "after", "upload_part", 3)
    else:
        await _kill_and_sweep(url_rig, "before", "copy", 1)


async def _kill_and_sweep(url_rig: PairRig, moment: str, operation: str, nth: int) -> None:
    data = content(url_rig.part_size * 4)
    digest = digest_of(data)
    url = url_rig.url("p", part_size=url_rig.part_size)
    arguments = [url, moment, operation, str(nth), str(len(data))]
    killed = await asyncio.to_thread(run, *arguments)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    async with url_rig.storage(prefix="p") as storage:
        is_made = await storage.find(digest) is not None
        assert is_made == ((moment, operation) == ("after", "copy"))
        if is_made:
            assert await storage.read_data(storage.storage_data_of(digest)) == data
        found = [leftover async for leftover in leftovers(storage, older_than=timedelta(0))]
        assert len(found) <= 4  # the parts of a composite upload are objects
        assert len([leftover async for leftover in sweep(storage, older_than=timedelta(0))]) == len(found)
    assert await url_rig.keys() == ([f"p/{digest['content_hash']}"] if is_made else [])
    if url_rig.shows_uploads:
        assert await url_rig.uploads() == []
    async with url_rig.storage(prefix="p") as storage:
        assert await storage.read_data(await write(storage, data)) == data
