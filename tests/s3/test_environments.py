"""`S3Storage` where the environment is wrong, missing or shared: credentials, endpoints, forks, absent libraries."""

import asyncio
import multiprocessing
import pickle
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aioboto3
import pytest

from lakery_cloud import (
    AccessDenied,
    BucketNotFound,
    ConfigError,
    ContentRecord,
    CredentialsError,
    S3Storage,
    StorageRegistry,
    StorageUnavailable,
    storage_from_url,
)
from lakery_cloud.emulators import Emulator
from lakery_cloud.testing import content, digest_of, stream_of
from tests.rigs import S3Rig

WRONG_KEY = {"aws_access_key_id": "nobody", "aws_secret_access_key": "not the secret"}
WRONG_SECRET = {"aws_access_key_id": "test", "aws_secret_access_key": "not the secret"}


@pytest.fixture
async def seaweedfs_rig(seaweedfs: Emulator, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[S3Rig]:
    """A rig on the server that checks signatures."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweedfs.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs.secret_access_key)
    async with S3Rig(seaweedfs, {}) as rig:
        yield rig


@pytest.fixture
def closed_port() -> str:
    """URL of a port at which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def silent_port() -> Iterator[str]:
    """URL of a port that lets nobody connect and refuses nobody: its queue of connections is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}"
        for client in waiting:
            client.close()


async def write(storage: S3Storage, data: bytes = b"data") -> Any:
    return await storage.write_data(data, digest_of(data), {})


@pytest.mark.case("34")
@pytest.mark.parametrize("credentials", [WRONG_KEY, WRONG_SECRET])
async def test_wrong_credentials_are_refused_by_name(seaweedfs_rig: S3Rig, credentials: dict[str, str]) -> None:
    session = aioboto3.Session(**credentials)
    async with seaweedfs_rig.storage(session=session) as storage:
        for attempt in (write(storage), storage.read_data(storage.storage_data_of(digest_of(b"data")))):
            with pytest.raises((CredentialsError, AccessDenied)) as raised:
                async with asyncio.timeout(10):
                    await attempt
            assert "not the secret" not in str(raised.value)


@pytest.mark.case("34")
async def test_no_credentials_say_what_to_set() -> None:
    async with S3Storage("bucket") as storage:
        with pytest.raises(CredentialsError, match="AWS_ACCESS_KEY_ID"):
            async with asyncio.timeout(10):
                await write(storage)


@pytest.mark.case("34")
async def test_unknown_profile_is_a_config_error() -> None:
    async with S3Storage("bucket", profile="nobody") as storage:
        with pytest.raises(ConfigError, match="nobody"):
            await write(storage)


@pytest.mark.parametrize("port", ["closed_port", "silent_port"])
async def test_endpoint_that_is_not_there_is_unavailable_within_ten_seconds(
    port: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(port)
    session = aioboto3.Session(aws_access_key_id="test", aws_secret_access_key="test")
    async with S3Storage("bucket", session=session, endpoint_url=url, part_size=5 * 1024**2) as storage:
        with pytest.raises(StorageUnavailable, match="no connection; check endpoint_url") as raised:
            async with asyncio.timeout(10):
                await write(storage)
        assert url in str(raised.value)
        stream = stream_of([content(6 * 1024**2)])
        with pytest.raises(StorageUnavailable, match="no connection"):
            async with asyncio.timeout(10):
                await storage.write_data_stream(stream, stream.get_digest, {})


@pytest.mark.case("40")
async def test_forked_child_opens_a_client_of_its_own(seaweedfs_rig: S3Rig) -> None:
    fork = multiprocessing.get_context("fork")
    async with seaweedfs_rig.storage() as storage:
        storage_data = await write(storage)
        results = fork.Queue()
        child = fork.Process(target=_read_in_child, args=(storage, storage_data, results))
        child.start()
        assert await asyncio.to_thread(results.get, timeout=30) == b"data"
        await asyncio.to_thread(child.join, 30)
        assert child.exitcode == 0
        assert await storage.read_data(storage_data) == b"data", "the parent's client must have survived"


def _read_in_child(storage: S3Storage, storage_data: Any, results: Any) -> None:
    async def read() -> None:
        async with storage:
            results.put(await storage.read_data(storage_data))

    # The fork copied the parent's running loop; the child starts afresh.
    asyncio.events._set_running_loop(None)
    asyncio.run(read())


@pytest.mark.case("40")
async def test_storage_with_a_session_of_its_own_is_not_pickled() -> None:
    storage = S3Storage("bucket", session=aioboto3.Session(**WRONG_SECRET))
    with pytest.raises(ConfigError, match="can't be pickled") as raised:
        pickle.dumps(storage)
    assert "not the secret" not in str(raised.value) + repr(storage)


async def test_client_of_the_user_is_used_and_stays_open(seaweedfs_rig: S3Rig) -> None:
    async with seaweedfs_rig.session().client("s3", endpoint_url=seaweedfs_rig.endpoint_url) as client:
        async with S3Storage(seaweedfs_rig.bucket, client=client) as storage:
            storage_data = await write(storage)
        assert (await client.head_object(Bucket=seaweedfs_rig.bucket, Key=storage_data["key"]))["ContentLength"] == 4


@pytest.mark.case("36")
async def test_data_in_another_bucket_still_reads(s3_rig: S3Rig) -> None:
    async with s3_rig.storage() as storage:
        storage_data = await write(storage)
    async with S3Storage("another-bucket", endpoint_url=s3_rig.endpoint_url, region="us-east-1") as other:
        assert await other.read_data(storage_data) == b"data"


@pytest.mark.case("36")
async def test_records_of_labox_read(s3_rig: S3Rig) -> None:
    key = f"some/prefix/{digest_of(b'data')['content_hash']}.bin"
    await s3_rig.put(key, b"data")
    record = ContentRecord(
        **digest_of(b"data"),
        storage_name="labox.aws.s3@v1",
        storage_data=f'{{"bucket": "{s3_rig.bucket}", "key": "{key}"}}',
    )
    async with StorageRegistry([s3_rig.storage()]) as registry:
        assert (await registry.load(record))["data"] == b"data"


async def test_two_buckets_under_names_of_their_own(s3_rig: S3Rig) -> None:
    archive_class = S3Storage.named("acme.archive@v1")
    archive = archive_class(s3_rig.bucket, prefix="archive", endpoint_url=s3_rig.endpoint_url, region="us-east-1")
    async with StorageRegistry([s3_rig.storage(prefix="hot"), archive], default="lakery_cloud.s3@v1") as registry:
        serialized = {"data": b"data", "content_type": "text/plain", "content_encoding": None}
        hot = await registry.save(serialized)
        cold = await registry.save(serialized, storage=archive)
        assert (hot.storage_name, cold.storage_name) == ("lakery_cloud.s3@v1", "acme.archive@v1")
        assert (await registry.load(hot), await registry.load(cold)) == (serialized, serialized)
    content_hash = digest_of(b"data")["content_hash"]
    assert sorted(await s3_rig.keys()) == [f"archive/{content_hash}", f"hot/{content_hash}"]


@pytest.mark.case("34")
async def test_missing_bucket_in_a_url_is_named(s3_rig: S3Rig) -> None:
    async with storage_from_url(f"s3://not-there/x?endpoint_url={s3_rig.endpoint_url}&region=us-east-1") as storage:
        with pytest.raises(BucketNotFound, match="'not-there'"):
            await write(storage)


@pytest.mark.case("39")
def test_absent_library_names_the_command_that_installs_it() -> None:
    program = """
        import sys
        sys.modules["aioboto3"] = None
        import lakery_cloud
        lakery_cloud.MemoryStorage()
        try:
            lakery_cloud.S3Storage
        except lakery_cloud.MissingDependency as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, text=True)
    assert done.stdout == 'S3Storage needs aioboto3: pip install "lakery-cloud[s3]"\n'


def test_importing_the_package_loads_no_sdk() -> None:
    program = "import sys, lakery_cloud; print({'aioboto3', 'botocore', 'aiohttp'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"part_size": 1}, "part_size must be"),
        ({"part_size": 6 * 1024**3}, "part_size must be"),
        ({"max_concurrent_parts": 0}, "max_concurrent_parts"),
        ({"sse": "none"}, "sse must be"),
        ({"kms_key_id": "key"}, "kms_key_id needs"),
        ({"addressing_style": "odd"}, "addressing_style"),
        ({"endpoint_url": "127.0.0.1:1"}, "endpoint_url must be"),
        ({"endpoint_url": "http://user:hunter2@host"}, "must not hold credentials"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"no_such_setting": 1}, "no_such_setting"),
    ],
)
def test_wrong_setting_is_refused_when_the_storage_is_made(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        S3Storage("bucket", **settings)
    assert "hunter2" not in str(raised.value)


def test_url_sets_everything_that_is_text_or_number() -> None:
    storage = storage_from_url(
        "s3://bucket/a%20b/c?endpoint_url=https://s3.example.com&region=eu-central-1&storage_class=STANDARD_IA"
        "&requester_pays=true&part_size=16777216&verify=false"
    )
    assert repr(storage) == "S3Storage('bucket', prefix='a b/c', endpoint_url='https://s3.example.com')"
    assert (storage.settings.part_size, storage.settings.verify) == (16 * 1024**2, False)
