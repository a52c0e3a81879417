"""One extra in an environment of its own, without the SDKs of the others; `tests/matrix.py` makes it and runs this file.

`LAKERY_CLOUD_EXTRA` is the extra, or `none`. No other test is imported, since they need all SDKs.
"""

import asyncio
import importlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

import lakery_cloud
from lakery_cloud import MissingDependency
from lakery_cloud.testing import StorageConformance, content

EXTRA = os.environ["LAKERY_CLOUD_EXTRA"]
CLOUD = {"aiobotocore": "s3"}.get(EXTRA, EXTRA)
SDKS = {
    "s3": {"aioboto3", "aiobotocore", "boto3", "botocore"},
    "gcs": {"gcsfs", "google.auth"},
    "azure": {"adlfs", "azure.core", "azure.storage.blob"},
}
CLASSES = {"s3": "S3Storage", "gcs": "GCSStorage", "azure": "AzureBlobStorage"}
FOREIGN = {sdk for cloud, sdks in SDKS.items() if cloud != CLOUD for sdk in sdks}


@asynccontextmanager
async def in_thread(double: AbstractAsyncContextManager[Any]) -> AsyncGenerator[Any]:
    """Run a double on an event loop of its own, since some tests block theirs or have several."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(double.__aenter__(), loop).result()
        asyncio.run_coroutine_threadsafe(double.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@asynccontextmanager
async def s3(_: Any) -> AsyncGenerator[Any]:
    from lakery_cloud.testing import S3_PROFILES, StrictS3
    from tests.rigs.s3_double import S3DoubleRig

    async with in_thread(StrictS3()) as server, S3DoubleRig(S3_PROFILES["aws"], server) as rig:
        yield rig


@asynccontextmanager
async def gcs(_: Any) -> AsyncGenerator[Any]:
    from lakery_cloud.testing import GCS_PROFILES, StrictGCS
    from tests.rigs.gcs_double import GCSDoubleRig

    async with in_thread(StrictGCS()) as server, GCSDoubleRig(GCS_PROFILES["google"], server) as rig:
        yield rig


@asynccontextmanager
async def azure(server: Any) -> AsyncGenerator[Any]:
    from tests.rigs.azure import AzureRig

    async with AzureRig("Azurite", server) as rig:
        yield rig


@asynccontextmanager
async def none(_: Any) -> AsyncGenerator[Any]:
    from tests.rigs.local import MemoryRig

    yield MemoryRig()


OPEN: dict[str, Callable[[Any], AbstractAsyncContextManager[Any]]] = {
    "s3": s3,
    "gcs": gcs,
    "azure": azure,
    "none": none,
}
REGION = {"s3": {"region": "us-east-1"}}
NO_LIMIT = "the store has no size limit of copies"
CANNOT = {
    "none": {"test_missing_bucket_is_bucket_not_found": "memory has no buckets"},
    "gcs": {
        "test_copy_past_the_limit_of_one_request_goes_in_parts": NO_LIMIT,
        "test_cancelled_copy_in_parts_leaves_nothing": NO_LIMIT,
        "test_sweep_aborts_unfinished_uploads": "resumable uploads can't be listed",
    },
    "azure": {"test_cancelled_copy_in_parts_leaves_nothing": "the blocks of a content key stay for up to a week"},
}


@pytest.fixture(scope="session")
def azurite() -> Iterator[Any]:
    """Azurite, which takes seconds to start; None for other extras."""
    if CLOUD != "azure":
        yield None
        return
    from lakery_cloud.emulators import Azurite

    with Azurite() as server:
        yield server


@pytest.fixture
async def rig(azurite: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Any]:
    async with OPEN[CLOUD](azurite) as rig:
        rig.cannot = CANNOT.get(CLOUD, {})
        for name, value in rig.environment.items():
            monkeypatch.setenv(name, value)
        yield rig


class TestConformance(StorageConformance):
    """The storage of the extra, on one server."""


def test_the_wheel_is_installed() -> None:
    assert Path(sys.prefix) in Path(lakery_cloud.__file__).parents
    assert importlib.metadata.version("lakery-cloud") == lakery_cloud.__version__


def test_no_sdk_of_another_cloud_is_installed() -> None:
    for sdk in FOREIGN:
        top = sdk.partition(".")[0]
        assert importlib.util.find_spec(top) is None or importlib.util.find_spec(sdk) is None, sdk


@pytest.mark.parametrize("cloud", CLASSES)
def test_storage_without_its_extra_says_what_to_install(cloud: str) -> None:
    if cloud == CLOUD:
        assert getattr(lakery_cloud, CLASSES[cloud]).name
        return
    with pytest.raises(MissingDependency, match=rf'pip install "lakery-cloud\[{cloud}\]"'):
        getattr(lakery_cloud, CLASSES[cloud])


async def run(*arguments: str, data: bytes = b"") -> bytes:
    """Run the command in a process that says which modules it has loaded; return its output."""
    script = (
        "import sys; sys.argv[0] = 'lakery-cloud'\n"
        "from lakery_cloud.cli.main import run\n"
        "code = run(sys.argv[1:])\n"
        f"found = {FOREIGN!r} & {{*sys.modules}}\n"
        "assert not found, found\n"
        "sys.exit(code)"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, *arguments), stdin=-1, stdout=-1, stderr=-1
    )
    output, errors = await process.communicate(data)
    assert process.returncode == 0, errors.decode()
    return output


async def test_command_saves_and_loads(rig: Any, tmp_path: Path) -> None:
    data = content(100_000)
    storage = str(tmp_path / "blobs")
    if CLOUD != "none":
        query = urlencode({**({"endpoint_url": rig.endpoint_url} if rig.endpoint_url else {}), **REGION.get(CLOUD, {})})
        storage = f"{rig.storage_class.url_scheme}://{rig.bucket}?{query}"
    record = (await run("put", "-", "--storage", storage, data=data)).decode()
    assert await run("get", record, "--storage", storage) == data
    assert await run("ls", storage)
    await run("verify", "--storage", storage)
    await run("copy", storage, str(tmp_path / "copy"))
    assert await run("sweep", "--older-than", "0s", "--storage", storage) == b""


async def test_command_selects_files(tmp_path: Path) -> None:
    for name in ("a.txt", "b.jpg", "c.tmp"):
        (tmp_path / name).write_text(name)
    options = ("-r", "--include", "*.txt", "--include", "*.jpg", "--exclude", "b.*", "--max-size", "1KiB", "--json")
    (line,) = (await run("put", str(tmp_path), "-s", str(tmp_path / "blobs"), *options)).splitlines()
    assert json.loads(line)["file"] == str(tmp_path / "a.txt")


async def test_module_is_the_command() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "lakery_cloud", "--version", stdout=-1)
    output, _ = await process.communicate()
    assert output.decode().strip() == lakery_cloud.__version__
