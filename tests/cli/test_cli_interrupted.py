"""Ctrl-C and SIGTERM during a transfer: nothing is left, and the exit code names the signal."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lakery_cloud.testing import (
    FaultProxy,
    Rule,
    content,
    digest_of,
)
from lakery_cloud.testing.faults import Stall
from tests.conftest import rig_on
from tests.helpers import COMMAND, proxy_before, until, write
from tests.rigs.base import CloudRig, MiB
from tests.rigs.pairs import one_server_a_cloud

cloud_rig = rig_on(*one_server_a_cloud())


@asynccontextmanager
async def running(*arguments: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdin=-1, stdout=-1, stderr=-1, env=dict(os.environ)
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def first_part_arrived(proxy: FaultProxy, process: asyncio.subprocess.Process) -> None:
    """Wait until the store has a part, which on some clouds is an object."""

    def has_part() -> bool:
        return any(each.neutral in ("upload_part", "put") and each.status is not None for each in proxy.exchanges)

    await until(lambda: has_part() or process.returncode is not None)
    assert process.returncode is None, await process.communicate()


@pytest.fixture(autouse=True)
def _skip_real_accounts(cloud_rig: CloudRig) -> None:
    if cloud_rig.is_live:
        pytest.skip("no proxy stands before a real account")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"])
async def test_interrupted_put_leaves_nothing(cloud_rig: CloudRig, number: signal.Signals, code: int) -> None:
    async with proxy_before(cloud_rig) as proxy:
        url = cloud_rig.url(part_size=cloud_rig.part_size)
        async with running("put", "-", "--storage", url) as process:
            assert process.stdin is not None
            process.stdin.write(content(cloud_rig.part_size + MiB))  # and no end
            await first_part_arrived(proxy, process)
            process.send_signal(number)
            process.stdin.close()
            output, errors = await process.communicate()
    assert process.returncode == code, errors
    assert output == b""
    assert b"interrupted" in errors
    assert b"Traceback" not in errors
    assert await cloud_rig.keys() == []
    await cloud_rig.check_nothing_left()


async def test_interrupted_get_keeps_the_file_that_was_there(cloud_rig: CloudRig, tmp_path: Path) -> None:
    data = content(4 * MiB)
    async with cloud_rig.storage() as storage:
        await write(storage, data)
    output = tmp_path / "output"
    output.write_bytes(b"before")
    async with proxy_before(cloud_rig) as proxy:
        stalled = proxy.arm(Rule(Stall(), "get"))
        arguments = ("get", digest_of(data)["content_hash"], "--output", str(output), "--storage", cloud_rig.url())
        async with running(*arguments) as process:
            await stalled.wait()
            assert list(tmp_path.glob(".lakery-cloud-*"))
            process.send_signal(signal.SIGINT)
            _, errors = await process.communicate()
    assert process.returncode == 130, errors
    assert output.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [output]
