"""Writes that are cancelled at generated moments: nothing is left, and what was reported as saved is complete."""

import asyncio
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from lakery_cloud.testing import content, digest_of, stream_of, tap
from tests.attack.cases import cases, counted
from tests.conftest import rig_on
from tests.helpers import PATIENCE, hash_of
from tests.rigs.base import PairRig
from tests.rigs.pairs import LOCAL_PAIRS, PROFILE_PAIRS

ON = ("memory", "file", "s3-aws", "gcs-strict", "azure-azurite")
OPERATIONS = (
    "put",
    "head",
    "begin_upload",
    "upload_part",
    "complete_upload",
    "copy",
    "copy_part",
    "delete",
    "abort_upload",
)

rig = rig_on(*(pair for pair in (*PROFILE_PAIRS, *LOCAL_PAIRS) if pair.name in ON))


async def write(storage: Any, kind: str, data: bytes) -> None:
    if kind == "blob":
        await storage.write_data(data, digest_of(data), {})
    else:
        source = stream_of([data[place : place + 5000] for place in range(0, len(data), 5000)])
        await storage.write_data_stream(source, source.get_digest, {})


@cases(12, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from(["blob", "stream", "stream", "large blob"]),
    moment=st.sampled_from(["before", "after"]),
    operation=st.sampled_from(OPERATIONS),
    nth=st.integers(1, 4),
    turns=st.integers(0, 30),
    parts=st.integers(0, 4),
    fast_lane=st.booleans(),
)
async def test_cancelled_write_leaves_nothing(
    rig: PairRig, kind: str, moment: str, operation: str, nth: int, turns: int, parts: int, fast_lane: bool
) -> None:
    data = content(rig.part_size * parts + 17) if kind != "blob" else b"a blob"
    options: dict[str, Any] = {} if rig.name in ("MemoryStorage", "FileStorage") else {"fast_lane": fast_lane}
    if kind == "large blob" and parts > 1:
        options["limits"] = replace(rig.storage().settings.limits, max_put_size=rig.part_size)
    storage = rig.storage(max_concurrent_parts=2, **options)
    hold = tap(storage).hold(operation, nth=nth, moment=moment)
    async with storage, asyncio.timeout(PATIENCE):
        writing = asyncio.create_task(write(storage, kind, data))
        reached = asyncio.create_task(hold.reached.wait())
        await asyncio.wait({writing, reached}, return_when=asyncio.FIRST_COMPLETED)
        if turns % 2:  # the request goes on for some turns of the loop
            hold.release()
            for _ in range(turns):
                await asyncio.sleep(0)
        writing.cancel()
        hold.release()
        reached.cancel()
        outcome, _ = await asyncio.gather(writing, reached, return_exceptions=True)
    assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome
    await rig.check_nothing_temporary()
    keys = await rig.keys()
    assert keys in ([], [hash_of(data)])
    if outcome is None:
        assert keys
    for key in keys:
        found = await rig.get(key)
        assert found is not None
        assert found.data == data
        await rig.delete(key)
    counted["cancelled writes"] += isinstance(outcome, asyncio.CancelledError)
