"""The rigs of real accounts work, and clean up: shown on local servers in place of accounts."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from lakery_cloud.testing import content, digest_of, tap
from tests.helpers import write, write_stream
from tests.rigs.base import CloudRig
from tests.rigs.live import BUCKET_VARIABLES, GCS_TESTBENCH, LIVE
from tests.rigs.pairs import LIVE_PAIRS, LOCAL_PAIRS

ROOT = Path(__file__).parents[2]
SERVERS = {pair.cloud: pair for pair in LOCAL_PAIRS if pair.name in ("s3-seaweedfs", "gcs-fake", "azure-azurite")}
ACCOUNTS = {pair.cloud: pair for pair in LIVE_PAIRS}
SUITE = (
    "tests/conformance",
    "tests/golden/test_golden_on_servers.py",
    "tests/cli/test_storages.py",
    "tests/clouds/test_sharing.py",
    "tests/live/test_live.py",
)
HANDFUL = {
    "account_stores_content": 1,
    "attributes_are_equal": 1,
    "prefix_is_kept": 9,
    "prefix_that_no_key": 6,
    "cancelled_stream_leaves": 8,
    "stat_and_list": 1,
    "sweep_removes_old": 1,
    "missing_bucket": 10,
    "another_bucket": 1,
    "golden_key": 2,
    "every_name_of_the_past": 1,
    "is_put_got_listed": 1,
    "pickled": 1,
}
"""Part of a test's name -> how many tests there are of it."""


LONGEST_RUN = 1500
"""Seconds after which a run of pytest hangs."""


@pytest.fixture
async def rigs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, CloudRig]]:
    """A rig on the server of each cloud."""
    async with AsyncExitStack() as stack:
        opened: Any = {
            cloud: await stack.enter_async_context(pair.open(request, monkeypatch)) for cloud, pair in SERVERS.items()
        }
        yield opened


def account_on(cloud: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment of a user whose account is the server of this cloud."""
    environment: dict[str, str] = request.getfixturevalue(SERVERS[cloud].source).environment()
    return environment


@pytest.fixture
def account(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment of a user whose account is the server of the test's rig."""
    return account_on(request.getfixturevalue("cloud"), request)


on_servers = pytest.mark.parametrize(
    ("rig", "cloud"), [pytest.param(pair, cloud, id=cloud) for cloud, pair in SERVERS.items()], indirect=["rig"]
)


def run_pytest(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run tests in a new process, as a user does."""
    ours = ("PYTEST_", "LAKERY_CLOUD_LIVE", GCS_TESTBENCH)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=LONGEST_RUN,
        check=False,
    )


@pytest.mark.timeout(LONGEST_RUN + 60)
async def test_suite_runs_on_accounts_and_leaves_nothing(
    rigs: dict[str, CloudRig], request: pytest.FixtureRequest
) -> None:
    environment = {LIVE: "1"}
    for cloud, rig in rigs.items():
        await rig.put("somebody's", b"data")
        environment |= {**account_on(cloud, request), BUCKET_VARIABLES[cloud]: rig.bucket}
    accounts = " or ".join(f"{cloud}-live" for cloud in rigs)
    selected = f"({accounts}) and ({' or '.join(HANDFUL)})"
    # One run for all clouds, since it takes as long to collect the tests as to run them.
    done = await asyncio.to_thread(run_pytest, *SUITE, "-rA", "-k", selected, **environment)
    assert done.returncode == 0, done.stdout
    for cloud, rig in rigs.items():
        passed = re.findall(rf"^PASSED .*\b{cloud}-live\b", done.stdout, re.MULTILINE)
        assert len(passed) == sum(HANDFUL.values()), done.stdout
        assert await rig.keys() == ["somebody's"]
        assert await rig.uploads() == []


@on_servers
async def test_live_rig_removes_its_objects_and_no_others(
    rig: CloudRig, cloud: str, account: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in account.items():
        monkeypatch.setenv(name, value)

    arrived = asyncio.Event()

    async def note() -> None:
        arrived.set()

    async def fail() -> None:
        raise ConnectionError("the clean-up broke")

    async def source(part_size: int) -> AsyncGenerator[bytes]:
        yield content(part_size * 3)
        await arrived.wait()
        raise ValueError("the source broke")

    await rig.put("somebody's", b"data")
    live: Any = ACCOUNTS[cloud].make
    async with live(rig.bucket) as other:
        await other.put("other's", b"data")
        async with live(rig.bucket) as mine:
            storage = mine.storage(prefix="a/b")
            wire = tap(storage)
            wire.after("upload_part", note)
            wire.before("abort_upload", fail)
            async with storage:
                await write(storage)
                with pytest.raises(ValueError, match="the source broke"):
                    await write_stream(storage, source(mine.part_size))
            assert await mine.keys() == [f"a/b/{digest_of(b'data')['content_hash']}"]
            assert len(await mine.uploads()) == (cloud != "gcs")  # Cloud Storage lists none; they end by themselves
            assert await other.keys() == ["other's"]
            assert await other.uploads() == []
        assert sorted(await rig.keys()) == sorted(["somebody's", other.in_bucket("other's")])
        assert await rig.uploads() == []
    assert await rig.keys() == ["somebody's"]


def test_run_without_accounts_and_testbench_has_one_skipped_test_for_each() -> None:
    done = run_pytest(
        "tests/clouds/test_sharing.py", "tests/live/test_live.py", "-k", "live and (forked or account_stores_content)"
    )
    assert re.search(r"^4 skipped", done.stdout, re.MULTILINE), done.stdout
    for variable in BUCKET_VARIABLES.values():
        assert f"set {LIVE}=1 and {variable}" in done.stdout
    assert f"set {GCS_TESTBENCH} to its URL" in done.stdout


def test_cloud_without_a_bucket_is_skipped_with_the_variable() -> None:
    done = run_pytest("tests/clouds/test_sharing.py", "-k", "live and forked", **{LIVE: "1"})
    assert re.search(r"^3 skipped", done.stdout, re.MULTILINE), done.stdout
    for variable in BUCKET_VARIABLES.values():
        assert f"missing: {variable}" in done.stdout
