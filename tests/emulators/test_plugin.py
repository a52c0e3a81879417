"""The pytest plugin as users run it: in a pytest process, with warnings as errors."""

from pathlib import Path

import psutil
import pytest

from lakery_cloud.emulators import FakeGCS
from lakery_cloud.emulators.install import Installation, cache_folder
from tests.helpers import wait_until

pytest_plugins = ["pytester"]

ROUND_TRIP = """
import pytest
from lakery_cloud import SerializedData, StorageRegistry

BLOB = SerializedData(data=b"hello", content_type="text/plain", content_encoding=None)

async def save(storage):
    assert [each async for each in storage.list()] == []  # the bucket is new
    registry = StorageRegistry([storage])
    record = await registry.save(BLOB)
    assert (await registry.load(record))["data"] == b"hello"
"""
SERVER = """
import os, signal

def test_it(lakery_gcs_server):  # the one that starts at once
    with open("servers", "a") as file:
        print(lakery_gcs_server._process.pid, lakery_gcs_server.folder, file=file)
"""

INSTALLED = str(cache_folder())
"""Found before pytester changes the home folder: without it, each test would install its servers again."""
FEW_PLUGINS = tuple(f"-pno:{name}" for name in ("asyncio", "anyio", "examples", "hypothesispytest", "timeout", "xdist"))
"""Without the plugins that are not needed, pytest starts faster."""
MISSING = {
    "s3": "S3Storage needs aiobotocore:",
    "gcs": "GCSStorage needs gcsfs:",
    "azure": "AzureBlobStorage needs adlfs:",
    "testing": "moto is not installed:",
}
"""Extra -> what a skipped test says of the package that is missing."""


@pytest.fixture
def users(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project of a user, on this machine's installed servers."""
    monkeypatch.setenv("LAKERY_CLOUD_CACHE", INSTALLED)
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    return pytester


def servers_of(users: pytest.Pytester) -> list[tuple[int, Path]]:
    lines = (users.path / "servers").read_text().splitlines()
    return [(int(pid), Path(folder)) for pid, folder in (line.split() for line in lines)]


def assert_gone(servers: list[tuple[int, Path]]) -> None:
    wait_until(lambda: not any(psutil.pid_exists(pid) or folder.exists() for pid, folder in servers))


def test_every_storage_has_a_new_bucket_in_each_test_also_under_anyio(users: pytest.Pytester) -> None:
    users.makeini("[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n")
    test = "\n@pytest.mark.asyncio\nasync def test_{}(lakery_storage):\n    await save(lakery_storage)\n"
    users.makepyfile(
        test_by_asyncio=ROUND_TRIP + test.format("one") + test.format("two"),
        test_by_anyio=f"""{ROUND_TRIP}
@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.fixture
async def registry(lakery_s3, anyio_backend):
    async with StorageRegistry([lakery_s3]) as opened:
        yield opened

@pytest.mark.anyio
async def test_several_fixtures(registry, lakery_s3, lakery_gcs):
    await save(lakery_gcs)
    await save(lakery_s3)
    await registry.save(BLOB)
""",
    )
    users.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=11)


def test_servers_of_all_workers_stop_with_the_session(users: pytest.Pytester) -> None:
    users.makepyfile(SERVER, test_other=SERVER)
    done = users.runpytest_subprocess(
        "-n", "2", "--dist", "loadfile", *(name for name in FEW_PLUGINS if "xdist" not in name)
    )
    done.assert_outcomes(passed=2)
    servers = servers_of(users)
    assert len(set(servers)) == 2
    assert_gone(servers)


def test_servers_end_with_a_session_that_is_killed(users: pytest.Pytester) -> None:
    users.makepyfile(f"{SERVER}    os.kill(os.getpid(), signal.SIGKILL)\n")
    users.runpytest_subprocess(*FEW_PLUGINS)
    assert_gone(servers_of(users))


def test_s3_server_can_be_replaced(users: pytest.Pytester) -> None:
    users.makepyfile("def test_it(lakery_s3_server):\n    assert lakery_s3_server.name == 'ministack'\n")
    users.runpytest_inprocess("--lakery-s3=ministack", *FEW_PLUGINS).assert_outcomes(passed=1)


def test_a_server_that_there_is_not_is_refused_before_any_test(users: pytest.Pytester) -> None:
    done = users.runpytest_inprocess("-o", "lakery_s3=minio", *FEW_PLUGINS)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*lakery_s3 must be one of moto, seaweedfs, localstack, ministack, not 'minio'"])


def test_clouds_without_their_extra_are_skipped_with_the_command_that_installs_it(
    users: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKERY_CLOUD_CACHE", str(users.path / "cache"))
    users.makeconftest("import sys\nsys.modules.update(dict.fromkeys(('aiobotocore', 'gcsfs', 'adlfs', 'moto')))\n")
    users.makepyfile("def test_storage(lakery_storage):\n    pass\n\ndef test_server(lakery_s3_server):\n    pass\n")
    done = users.runpytest_subprocess("-rs", *FEW_PLUGINS)
    done.assert_outcomes(passed=2, skipped=4)
    lines = [f'SKIPPED *: {what} pip install "lakery-cloud?{extra}?"*' for extra, what in MISSING.items()]
    done.stdout.fnmatch_lines_random(lines)
    assert not (users.path / "cache").exists(), "a server was installed for a storage that can't be used"


def test_installation_is_named_and_its_time_out_fails_the_tests_with_the_reason(
    users: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKERY_CLOUD_CACHE", str(users.path / "cache"))
    monkeypatch.setattr(Installation, "max_duration", 0.1)
    users.makepyfile("def test_one(lakery_gcs):\n    pass\n\ndef test_other(lakery_gcs):\n    pass\n")
    done = users.runpytest_inprocess(*FEW_PLUGINS)
    done.assert_outcomes(errors=2)
    done.stdout.fnmatch_lines(["*EmulatorError: fake-gcs-* cannot be installed: * did not end within 0.1 seconds; *"])
    told = [line for line in done.errlines if line.startswith("lakery-cloud: ")]
    assert [line.partition(" into ")[0] for line in told] == [f"lakery-cloud: installing fake-gcs-{FakeGCS.version}"]


def test_a_session_that_uses_no_fixture_pays_nothing(users: pytest.Pytester) -> None:
    users.makepyfile("""
import sys

def test_it():
    costly = ("moto", "boto3", "aioboto3", "aiohttp", "pytest_asyncio", "lakery_cloud.emulators", "lakery_cloud.providers")
    assert not [name for name in sys.modules if name.startswith(costly)]
""")
    users.runpytest_subprocess(*FEW_PLUGINS).assert_outcomes(passed=1)
