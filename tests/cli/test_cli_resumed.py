"""An interrupted `put` of many files: saved files stay, and a second run saves the rest."""

import asyncio
import json
import signal
from pathlib import Path

from lakery_cloud.testing import (
    FaultProxy,
    Rule,
    content,
    digest_of,
)
from lakery_cloud.testing.faults import Delay
from tests.cli.test_cli_interrupted import running
from tests.helpers import PATIENCE
from tests.rigs.base import CloudRig


async def test_records_of_files_that_were_done_stay_and_the_rest_is_saved_later(
    seaweedfs_rig: CloudRig, tmp_path: Path
) -> None:
    rig = seaweedfs_rig
    large, records = tmp_path / "files" / "b", tmp_path / "records.jsonl"
    large.parent.mkdir()
    large.with_name("a").write_bytes(b"small")
    large.write_bytes(content(2 * rig.part_size))
    arguments = ("put", "-r", str(large.parent), "--records", str(records), "--jobs", "1", "--json", "--storage")
    async with FaultProxy(rig.server_url) as proxy:
        delayed = proxy.arm(Rule(Delay(None), "upload_part"))
        rig.point_to(proxy.url)
        async with running(*arguments, rig.url(part_size=rig.part_size)) as process:
            async with asyncio.timeout(PATIENCE):
                await delayed.wait()
            process.send_signal(signal.SIGINT)
            _, errors = await process.communicate()
        assert process.returncode == 130, errors
    assert [json.loads(line)["file"] for line in records.read_text().splitlines()] == [str(large.with_name("a"))]
    assert await rig.keys() == [digest_of(b"small")["content_hash"]]
    await rig.check_nothing_temporary()
    rig.point_to(rig.server_url)
    async with running(*arguments, rig.url(part_size=rig.part_size)) as process:
        output, _ = await process.communicate()
    assert [json.loads(line)["result"] for line in output.splitlines()] == ["deduplicated", "stored"]
    assert len(records.read_text().splitlines()) == 2
