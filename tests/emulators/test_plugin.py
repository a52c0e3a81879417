"""The pytest plugin as users run it: in a pytest process, with warnings as errors."""

from pathlib import Path

import psutil
import pytest

from lakery_cloud.emulators.install import cache_folder
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
ONE = f"{ROUND_TRIP}\n@pytest.mark.asyncio\nasync def test_it(lakery_s3):\n    await save(lakery_s3)\n"
SERVER = """
import os, signal

def test_it(lakery_s3_server):
    with open("servers", "a") as file:
        print(lakery_s3_server._process.pid, lakery_s3_server.folder, file=file)
"""


@pytest.fixture
def users(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project of a user, on this machine's installed servers."""
    monkeypatch.setenv("LAKERY_CLOUD_CACHE", str(cache_folder()))
    pytester.makeini("[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n")
    return pytester


def servers_of(users: pytest.Pytester) -> list[tuple[int, Path]]:
    lines = (users.path / "servers").read_text().splitlines()
    return [(int(pid), Path(folder)) for pid, folder in (line.split() for line in lines)]


def assert_gone(servers: list[tuple[int, Path]]) -> None:
    wait_until(lambda: not any(psutil.pid_exists(pid) or folder.exists() for pid, folder in servers))


def test_every_storage_has_a_new_bucket_in_each_test_also_under_anyio(users: pytest.Pytester) -> None:
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
    users.runpytest_subprocess("-n", "2", "--dist", "loadfile").assert_outcomes(passed=2)
    servers = servers_of(users)
    assert len(set(servers)) == 2
    assert_gone(servers)


def test_servers_end_with_a_session_that_is_killed(users: pytest.Pytester) -> None:
    users.makepyfile(f"{SERVER}    os.kill(os.getpid(), signal.SIGKILL)\n")
    users.runpytest_subprocess()
    assert_gone(servers_of(users))


def test_s3_server_can_be_replaced(users: pytest.Pytester) -> None:
    users.makepyfile("def test_it(lakery_s3_server):\n    assert lakery_s3_server.name == 'seaweedfs'\n")
    users.runpytest_subprocess("--lakery-s3=seaweedfs").assert_outcomes(passed=1)


def test_a_server_that_there_is_not_is_refused_before_any_test(users: pytest.Pytester) -> None:
    done = users.runpytest_subprocess("-o", "lakery_s3=minio")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*lakery_s3 must be one of moto, seaweedfs, localstack, not 'minio'"])


def test_a_missing_package_is_named_with_the_command_that_installs_it(users: pytest.Pytester) -> None:
    users.makeconftest("import sys\nsys.modules['moto'] = None\n")
    users.makepyfile(ONE)
    done = users.runpytest_subprocess()
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(['*MissingDependency: moto is not installed: pip install "lakery-cloud?testing?"'])


def test_a_session_that_uses_no_fixture_pays_nothing(users: pytest.Pytester) -> None:
    users.makeini("[pytest]\n")
    users.makepyfile("""
import sys

def test_it():
    costly = ("moto", "boto3", "aioboto3", "aiohttp", "pytest_asyncio", "lakery_cloud.emulators", "lakery_cloud.providers")
    assert not [name for name in sys.modules if name.startswith(costly)]
""")
    users.runpytest_subprocess("-p", "no:asyncio", "-p", "no:xdist", "-p", "no:examples").assert_outcomes(passed=1)
