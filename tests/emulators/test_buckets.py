"""Buckets on every local server: made, pointed to, and removed with all that is in them."""

import pytest

from lakery_cloud import BucketNotFound, ConfigError, storage_from_url
from lakery_cloud.emulators import (
    Emulator,
    EmulatorError,
    FakeGCS,
    SeaweedFS,
)
from tests.helpers import write


@pytest.fixture(params=["moto", "localstack", "seaweedfs", "ministack", "fake_gcs", "azurite"])
def server(request: pytest.FixtureRequest) -> Emulator:
    return request.getfixturevalue(request.param)


async def test_bucket_is_made_used_by_url_and_removed(
    server: Emulator, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = "made-by-a-test"
    server.make_bucket(bucket)
    server.make_bucket(bucket)
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    async with server.storage(bucket, prefix="a b/ü") as ours, storage_from_url(server.url(bucket)) as by_url:
        found = await write(ours)
        assert await by_url.read_data(found) == b"data"
        server.remove_bucket(bucket)
        server.remove_bucket(bucket)
        with pytest.raises(BucketNotFound):
            await ours.read_data(found)


def test_bucket_is_removed_with_its_unfinished_uploads(seaweedfs: SeaweedFS) -> None:
    client = seaweedfs._client()
    seaweedfs.make_bucket("unfinished")
    client.create_multipart_upload(Bucket="unfinished", Key="a/key")
    seaweedfs.remove_bucket("unfinished")
    assert "unfinished" not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]


@pytest.mark.parametrize("bucket", ["", "ab", "a" * 64, "Upper", "a--b", "-a-", "a.b", "../x", "a\nb"])
def test_invalid_bucket_names_are_refused_before_any_request(bucket: str) -> None:
    for kind in (SeaweedFS, FakeGCS):
        with pytest.raises(ConfigError, match="use 3 to 63 lower-case letters"):
            kind.at("http://127.0.0.1:1").make_bucket(bucket)


def test_a_server_that_is_not_there_is_an_emulator_error() -> None:
    with pytest.raises(EmulatorError, match="fake-gcs could not create the bucket 'bucket'"):
        FakeGCS.at("http://127.0.0.1:1").make_bucket("bucket")
