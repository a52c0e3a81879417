"""`S3Storage` on credentials, clients and settings of its own."""

from collections.abc import Callable
from typing import Any

import botocore.session
import pytest
from aiobotocore.session import AioSession

from lakery_cloud import (
    AccessDenied,
    ConfigError,
    CredentialsError,
    S3Storage,
    StorageRegistry,
)
from lakery_cloud.testing import digest_of
from tests.helpers import write
from tests.rigs.s3 import S3Rig, aws_session


def aioboto3_session(access_key_id: str, secret_access_key: str, region: str | None = None) -> Any:
    aioboto3 = pytest.importorskip("aioboto3")
    return aioboto3.Session(access_key_id, secret_access_key, region_name=region)


def aiobotocore_session(access_key_id: str, secret_access_key: str, region: str | None = None) -> AioSession:
    session = AioSession()
    session.set_config_variable("region", region)
    session.set_credentials(access_key_id, secret_access_key)
    return session


def boto3_session() -> Any:
    return pytest.importorskip("boto3").session.Session()


@pytest.mark.case("34")
@pytest.mark.parametrize("access_key_id", ["nobody", "test"])
async def test_wrong_credentials_are_refused_by_name(seaweedfs_rig: S3Rig, access_key_id: str) -> None:
    async with seaweedfs_rig.storage(session=aws_session(access_key_id, "not the secret")) as storage:
        for attempt in (write(storage), storage.read_data(storage.storage_data_of(digest_of(b"data")))):
            with pytest.raises((CredentialsError, AccessDenied)) as raised:
                await attempt
            assert "not the secret" not in str(raised.value)


@pytest.mark.case("34")
async def test_unknown_profile_is_a_config_error() -> None:
    async with S3Storage("bucket", profile="nobody") as storage:
        with pytest.raises(ConfigError, match="nobody"):
            await write(storage)


@pytest.mark.parametrize("make_session", [aioboto3_session, aiobotocore_session])
async def test_session_of_either_library_gives_credentials_and_region(
    seaweedfs_rig: S3Rig, make_session: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    session = make_session("test", "testtest", "eu-west-3")
    async with seaweedfs_rig.storage(session=session, region=None) as storage:
        storage_data = await write(storage)
        assert await storage.read_data(storage_data) == b"data"
        assert "eu-west-3" in (await storage.presign(storage_data)).url


@pytest.mark.parametrize(
    ("make_session", "kind"),
    [
        (boto3_session, "boto3.session.Session"),
        (botocore.session.Session, "botocore.session.Session"),
        (lambda: "default", "builtins.str"),
    ],
)
def test_other_session_is_refused_when_the_storage_is_made(make_session: Callable[[], Any], kind: str) -> None:
    with pytest.raises(ConfigError, match=f"aioboto3 or an AioSession of aiobotocore, not {kind}"):
        S3Storage("bucket", session=make_session())


async def test_client_of_the_user_is_used_and_stays_open(seaweedfs_rig: S3Rig) -> None:
    async with seaweedfs_rig.session().create_client("s3", endpoint_url=seaweedfs_rig.endpoint_url) as client:
        async with S3Storage(seaweedfs_rig.bucket, client=client) as storage:
            storage_data = await write(storage)
        assert (await client.head_object(Bucket=seaweedfs_rig.bucket, Key=storage_data["key"]))["ContentLength"] == 4


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
        ({"endpoint_url": "http://user:hunter2@host"}, "must not contain credentials"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"no_such_setting": 1}, "no_such_setting"),
    ],
)
def test_wrong_setting_is_refused_when_the_storage_is_made(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        S3Storage("bucket", **settings)
    assert "hunter2" not in str(raised.value)
