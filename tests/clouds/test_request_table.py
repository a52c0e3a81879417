"""The table of requests in docs/concepts.md is what arrives at a server of each cloud."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lakery_cloud import MemoryStorage, StorageRegistry
from lakery_cloud.maintenance import CollectJob, CopyJob, Job, VerifyJob, run_job, store_time
from lakery_cloud.maintenance.live import LiveSet
from lakery_cloud.maintenance.shards import EVERYTHING
from lakery_cloud.testing import Exchange, content, digest_of
from tests.conftest import rig_on
from tests.helpers import blob_stream, proxy_before, write, write_stream
from tests.rigs.base import CloudRig
from tests.rigs.pairs import LOCAL_PAIRS, PROFILE_PAIRS

PAGE = Path(__file__).parents[2] / "docs" / "concepts.md"
COLUMNS = {"s3": 1, "gs": 2, "az": 3}
"""Scheme -> the column of the table."""

cloud_rig = rig_on(
    *(pair for pair in (*PROFILE_PAIRS, *LOCAL_PAIRS) if pair.name in ("s3-aws", "gcs-strict", "azure-azurite"))
)

PARTS = OBJECTS = 5
"""Parts of each stream, and objects of each job: a request that arrives so often is one for each of them."""
ONCE = {1: "once ", 2: "twice "}
"""Number of requests of a job, whatever the number of objects -> how the table says it."""
SHARED = ("delete_objects",)
"""Requests for several objects; how many there are depends on which of them come at the same time."""
SIZE = 50_000
"""Bytes of a blob: less than a part, and more than what requests have besides content."""
LATER = timedelta(days=30)


@dataclass
class Desk:
    """Storages of one rig, and the requests of their operations by the names of the rows."""

    rig: CloudRig
    exchanges: list[Exchange]
    opened: AsyncExitStack
    seeds: int = 0
    found: dict[str, tuple[list[str], int, float, float]] = field(default_factory=dict)
    """Row -> the operations, how often one is for each part or object, and how often the content was sent and received."""

    async def storage(self, prefix: str = "") -> Any:
        """A new storage that has sent a request."""
        storage = await self.opened.enter_async_context(self.rig.storage(prefix=prefix, max_concurrent_parts=1))
        await write(storage, b"so that it is connected", {})
        return storage

    def blob(self) -> bytes:
        self.seeds += 1
        return content(SIZE, seed=self.seeds)

    def parts(self) -> bytes:
        self.seeds += 1
        return content(self.rig.part_size * (PARTS - 1) + 1, seed=self.seeds)

    async def note(self, row: str, size: int, operation: Callable[[], Awaitable[Any]], *, objects: int = 0) -> None:
        self.exchanges.clear()
        await operation()
        sent, received = (
            sum(getattr(exchange, name) for exchange in self.exchanges) / (size * (objects or 1))
            for name in ("sent_bytes", "received_bytes")
        )
        self.found[row] = ([exchange.operation for exchange in self.exchanges], objects, sent, received)


async def test_the_table_of_requests_is_true(cloud_rig: CloudRig) -> None:
    async with AsyncExitStack() as opened:
        proxy = await opened.enter_async_context(proxy_before(cloud_rig))
        desk = Desk(cloud_rig, proxy.exchanges, opened)
        await _note_writes(desk)
        await _note_reads(desk)
        await _note_jobs(desk)
    documented = _table()
    column = COLUMNS[cloud_rig.storage_class.url_scheme]
    assert list(documented) == list(desk.found)
    cells = {row: _cell(operations, objects) for row, (operations, objects, _, _) in desk.found.items()}
    assert {row: documented[row][column - 1] for row in documented} == cells
    passed = {row: _passed(sent, received) for row, (_, _, sent, received) in desk.found.items()}
    assert {row: cells[3] for row, cells in documented.items()} == passed


async def _note_writes(desk: Desk) -> None:
    storage = await desk.storage()
    blob, parts, known = desk.blob(), desk.parts(), desk.parts()
    await write_stream(storage, desk.parts(), {})  # the first move of Cloud Storage asks whether the bucket keeps it
    await desk.note("blob, new", SIZE, lambda: write(storage, blob, {}))
    await desk.note("blob that this storage has seen", SIZE, lambda: write(storage, blob, {}))
    another = await desk.storage()
    await desk.note("blob that is stored", SIZE, lambda: write(another, blob, {}))
    short = desk.blob()
    await desk.note("stream within one part", SIZE, lambda: write_stream(storage, short, {}))
    await desk.note("stream of *n* parts", len(parts), lambda: write_stream(storage, parts, {}))
    await desk.note("stream of *n* parts that is stored", len(parts), lambda: write_stream(storage, parts, {}))

    registry = StorageRegistry([storage])

    async def save_known() -> None:
        await registry.save_stream(blob_stream([known]), digest=digest_of(known))

    await desk.note("file of *n* parts, known hash", len(known), save_known)
    await desk.note("file with a known hash that is stored", len(known), save_known)


async def _note_reads(desk: Desk) -> None:
    storage, blob = await desk.storage(), desk.blob()
    written = await write(storage, blob, {})
    await desk.note("read", SIZE, lambda: storage.read_data(written))
    await desk.note("`exists`", SIZE, lambda: storage.exists(written))
    await desk.note("`stat`", SIZE, lambda: storage.stat(written))


async def _note_jobs(desk: Desk) -> None:
    source = await desk.storage("jobs")
    await source.delete(await write(source, b"so that it is connected", {}))
    for _ in range(OBJECTS):
        await write(source, desk.blob(), {})
    there = await desk.opened.enter_async_context(MemoryStorage())
    copies = await desk.storage("copies")
    await copies.delete(await write(copies, b"so that it is connected", {}))

    async def note(row: str, job: Job) -> None:
        async def run() -> None:
            [_ async for _ in run_job(job, [EVERYTHING])]

        await desk.note(row, SIZE, run, objects=OBJECTS)

    await note("`verify`, each object", VerifyJob(source))
    await note("`copy` to another cloud, each object", CopyJob(source, there))
    await note("`copy` inside the store, each object", CopyJob(source, copies))
    with LiveSet() as live:
        for row, after in (
            ("`gc` to quarantine, each object", LATER),
            ("`gc` from quarantine, each object", 2 * LATER),
        ):
            began = await store_time(source) + after
            await note(row, CollectJob(source, live=live, began=began, dry_run=False))


def _table() -> Mapping[str, Sequence[str]]:
    """Row -> its other cells."""
    _, found, rest = PAGE.read_text("utf-8").partition("<!-- requests -->\n")
    assert found
    lines = rest.partition("<!-- end of requests -->")[0].split("\n")
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]
    return {row[0]: row[1:] for row in rows[2:]}


def _cell(operations: Sequence[str], objects: int) -> str:
    """The operations in the order of their first requests.

    `n` is for what each part needs, `once` for what a job needs, and `shared` for what several objects need together.
    """
    return ", ".join(
        f"shared `{name}`" if name in SHARED and n <= objects else f"{_times(n, objects)}`{name}`"
        for name, n in Counter(operations).items()
    )


def _times(number: int, objects: int) -> str:
    if objects:
        assert number in ONCE or number % objects == 0, f"{number} requests for {objects} objects"
        return ONCE.get(number) or {1: ""}.get(number // objects, f"{number // objects} ")
    return {1: "", PARTS: "*n* "}.get(number, f"{number} ")


def _passed(sent: float, received: float) -> str:
    passed = [word for word, times in (("sent", sent), ("received", received)) if times > 0.5]
    assert max(sent, received) < 1.5
    return ", ".join(passed) or "-"


def test_a_wrong_cell_is_noticed() -> None:
    assert _cell(["put", *["part"] * PARTS, "look", "look"], 0) == "`put`, *n* `part`, 2 `look`"
    job = ["list", *["get"] * OBJECTS, *["look"] * 2 * OBJECTS, *["page"] * 2]
    assert _cell(job, OBJECTS) == "once `list`, `get`, 2 `look`, twice `page`"
    assert _cell(["look", "delete_objects", "delete_objects"], OBJECTS) == "once `look`, shared `delete_objects`"
    with pytest.raises(AssertionError, match="6 requests for 5 objects"):
        _cell(["delete_objects"] * 6, OBJECTS)
    with pytest.raises(AssertionError, match="3 requests for 5 objects"):
        _cell(["list"] * 3, OBJECTS)
    with pytest.raises(AssertionError):
        _passed(2, 0)
