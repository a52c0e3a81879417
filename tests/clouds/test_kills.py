"""A writer that is killed at any step leaves no partial content, and nothing that `sweep` doesn't find."""

import asyncio
import os
import signal
import textwrap
from datetime import timedelta
from typing import Any

import pytest

from lakery_cloud import GCSStorage, S3Storage
from lakery_cloud.maintenance import leftovers, sweep
from lakery_cloud.testing import content, digest_of
from tests.commands import forks
from tests.helpers import write
from tests.rigs.base import PairRig
from tests.rigs.beside import KILLED_PAIRS, BesideRig
from tests.rigs.pairs import PAIRS, PROFILE_PAIRS, on_each, params

PROGRAM = """
    import asyncio, os, signal, sys

    from lakery_cloud import storage_from_url
    from lakery_cloud.testing import content, digest_of, stream_of, tap

    async def main(url, moment, operation, nth, size, digest):
        storage = storage_from_url(url)

        async def die():
            os.kill(os.getpid(), signal.SIGKILL)

        getattr(tap(storage), moment)(operation, die, nth=int(nth))
        async with storage:
            data = content(int(size))
            stream = stream_of([data], expected=digest_of(data) if digest == "known" else None)
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

COMPOSED = {
    "gcs-composite": [("after", "complete_upload")],
    "gcs-google-versioned": [("after", "complete_upload"), ("after", "copy")],
}
"""Pairs that compose parts to a temporary object, and to the content key -> when their writer is killed."""
STRAIGHT = [pair for pair in PAIRS if pair.name in ("file", "s3-seaweedfs", "gcs-strict")]
"""Pairs on which a stream with a known digest goes straight to its key."""


def run(*arguments: str) -> Any:
    """Run the writer, and return how it ended."""
    script = textwrap.dedent(PROGRAM)
    return forks().run([*arguments], script=script, folder=os.getcwd(), environment=os.environ)


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
    await _kill_and_sweep(url_rig, moment, operation, nth, is_made=(moment, operation) == ("after", "copy"))


@pytest.mark.case("20")
@pytest.mark.parametrize("url_rig", params(STRAIGHT), indirect=True)
@pytest.mark.parametrize(
    ("moment", "operation", "nth"),
    [("after", "begin_upload", 1), ("after", "upload_part", 3), ("before", "complete_upload", 1)],
)
async def test_killed_writer_of_a_known_stream_leaves_the_content_or_nothing(
    url_rig: PairRig, moment: str, operation: str, nth: int
) -> None:
    is_made = operation == "complete_upload" and url_rig.storage_class is GCSStorage  # by the last part
    await _kill_and_sweep(url_rig, moment, operation, nth, is_known=True, is_made=is_made)


@pytest.mark.case("20")
@pytest.mark.parametrize(
    ("url_rig", "moment", "operation"),
    [
        pytest.param(pair, moment, operation, id=f"{pair.name}-{moment}-{operation}")
        for pair in (*PAIRS, *PROFILE_PAIRS)
        for moment, operation in COMPOSED.get(pair.name, ())
    ],
    indirect=["url_rig"],
)
async def test_killed_writer_of_composed_parts_leaves_nothing_that_sweep_does_not_find(
    url_rig: PairRig, moment: str, operation: str
) -> None:
    await _kill_and_sweep(url_rig, moment, operation, 1, is_made=(moment, operation) == ("after", "copy"))


@pytest.mark.case("20")
@pytest.mark.case("55")
@pytest.mark.parametrize("url_rig", params(KILLED_PAIRS), indirect=True)
async def test_killed_writer_leaves_nothing_that_sweep_does_not_find_in_either_bucket(url_rig: BesideRig) -> None:
    if url_rig.storage_class is S3Storage:
        await _kill_and_sweep(url_rig, "after", "upload_part", 3)
    else:
        await _kill_and_sweep(url_rig, "before", "copy", 1)


async def _kill_and_sweep(
    url_rig: PairRig, moment: str, operation: str, nth: int, *, is_made: bool = False, is_known: bool = False
) -> None:
    data = content(url_rig.part_size * 4)
    digest = digest_of(data)
    url = url_rig.url("p", part_size=url_rig.part_size)
    arguments = [url, moment, operation, str(nth), str(len(data)), "known" if is_known else "unknown"]
    killed = await asyncio.to_thread(run, *arguments)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    async with url_rig.storage(prefix="p") as storage:
        assert (await storage.find(digest) is not None) == is_made
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
