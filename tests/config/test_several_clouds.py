"""One file for two buckets of one provider with different credentials and names, and one of each other provider."""

import dataclasses
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lakery_cloud import (
    AccessDenied,
    Content,
    ContentRecord,
    ReadOnlyStorage,
    SerializedData,
    SerializedDataStream,
    StorageRegistry,
    load_registry,
)
from lakery_cloud.emulators import Azurite, FakeGCS, SeaweedFS
from lakery_cloud.testing import content
from tests.rigs.azure import AzureRig
from tests.rigs.gcs import GCSRig
from tests.rigs.s3 import S3Rig
from tests.servers import BUCKET_KEYS

MiB = 1024**2

CONFIGURATION = """
default = "hot"

[storages.hot]
url = "s3://{hot.bucket}/{prefix}"
endpoint_url = "{hot.server_url}"
region = "us-east-1"
access_key_id = "env:HOT_KEY"
secret_access_key = "env:HOT_SECRET"
part_size = "5MiB"

[storages.lab]
url = "s3://{lab.bucket}/{prefix}?endpoint_url={lab.server_url}&region=us-east-1"
name = "tests.config.lab@v1"
access_key_id = "file:secrets/key"
secret_access_key = "file:secrets/secret"

[storages.archive]
url = "gs://{archive.bucket}/{prefix}"
endpoint_url = "{archive.server_url}"
token = "anon"

[storages.blue]
url = "az://{blue.bucket}/{prefix}"
connection_string = "env:BLUE"

[storages.disk]
url = "file://{folder}/{prefix}"

[[routes]]
content_type = "image/*"
storage = "archive"

[[routes]]
tag = {{ team = "lab*" }}
storage = "lab"

[[routes]]
content_type = "text/*"
max_size = "1KiB"
storage = "disk"

[[routes]]
min_size = "6MiB"
content_encoding = "identity"
storage = "blue"

[retired]
storages = ["tests.config.former@v1 = hot"]
"""

CONTENTS: Mapping[str, tuple[str, dict[str, str], bytes]] = {
    "hot": ("application/json", {}, b'{"answer": 42}'),
    "lab": ("application/json", {"team": "lab-7"}, content(2000)),
    "archive": ("image/png", {"team": "lab-7"}, content(300_000)),
    "blue": ("application/octet-stream", {}, content(6 * MiB)),
    "disk": ("text/plain; charset=utf-8", {}, b"a few words"),
}
BLOB = SerializedData(data=b"x", content_type="a/b", content_encoding=None)
NAMES = {
    "hot": "lakery_cloud.s3@v1",
    "lab": "tests.config.lab@v1",
    "archive": "lakery_cloud.gcs@v1",
    "blue": "lakery_cloud.azure@v1",
    "disk": "lakery_cloud.file@v1",
}


def _worker() -> int:
    """The number of this worker of xdist."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


@pytest.fixture
async def rigs(seaweedfs: SeaweedFS, fake_gcs: FakeGCS, azurite: Azurite) -> AsyncIterator[SimpleNamespace]:
    """A bucket of each; none of their credentials is in the environment."""
    rigs = {
        "hot": S3Rig("SeaweedFS", seaweedfs),
        "lab": S3Rig("SeaweedFS", seaweedfs),
        "archive": GCSRig("fake-gcs-server", fake_gcs.endpoint_url),
        "blue": AzureRig("Azurite", azurite),
    }
    rigs["lab"].bucket = [*BUCKET_KEYS][_worker() % len(BUCKET_KEYS)]
    async with AsyncExitStack() as stack:
        for rig in rigs.values():
            await stack.enter_async_context(rig)
        yield SimpleNamespace(**rigs)


@pytest.fixture
def configure(
    rigs: SimpleNamespace, seaweedfs: SeaweedFS, azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Writes the file with another prefix each time, and loads it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOT_KEY", seaweedfs.access_key_id)
    monkeypatch.setenv("HOT_SECRET", seaweedfs.secret_access_key)
    monkeypatch.setenv("BLUE", azurite.connection_string)
    (tmp_path / "secrets").mkdir()
    key, secret = BUCKET_KEYS[rigs.lab.bucket]
    (tmp_path / "secrets" / "key").write_text(key, "utf-8")
    (tmp_path / "secrets" / "secret").write_text(secret, "utf-8")

    def load(prefix: str, **settings: Any) -> StorageRegistry:
        text = CONFIGURATION.format(**vars(rigs), prefix=prefix, folder=tmp_path)
        (tmp_path / "lakery-cloud.toml").write_text(text, "utf-8")
        return load_registry(**settings)

    return load


async def save_all(registry: StorageRegistry) -> dict[str, ContentRecord]:
    return {
        key: await registry.save(SerializedData(data=data, content_type=kind, content_encoding=None), tags=tags)
        for key, (kind, tags, data) in CONTENTS.items()
    }


async def check_all(registry: StorageRegistry, records: Mapping[str, ContentRecord]) -> None:
    for key, record in records.items():
        loaded = await registry.load(ContentRecord.from_json(record.to_json()))
        assert (loaded["content_type"], loaded["data"]) == (CONTENTS[key][0], CONTENTS[key][2])


async def test_saved_by_routes_and_loaded_by_records_after_the_prefix_was_changed(
    configure: Any, rigs: SimpleNamespace, tmp_path: Path
) -> None:
    async with configure("before") as registry:
        records = await save_all(registry)
    assert {key: record.storage_name for key, record in records.items()} == NAMES
    for key, rig in vars(rigs).items():
        assert await rig.keys() == [f"before/{records[key].content_hash}"]
    # A folder has no prefix: its records are relative to it, and move with it.
    in_cloud = {key: records[key] for key in vars(rigs)}
    async with configure("after") as registry:
        await check_all(registry, in_cloud)
        again = await save_all(registry)
        await check_all(registry, again)
    for key, rig in vars(rigs).items():
        content_hash = records[key].content_hash
        assert sorted(await rig.keys()) == [f"after/{content_hash}", f"before/{content_hash}"]


async def test_explanation_is_where_content_lies(configure: Any) -> None:
    async with configure("x") as registry:
        for key, record in (await save_all(registry)).items():
            kind, tags, data = CONTENTS[key]
            known = Content(content_type=kind, tags=tags, size=len(data))
            explained = registry.explain(known, content_hash=record.content_hash)
            stored = json.loads(record.storage_data)
            assert explained.storage_name == record.storage_name
            assert explained.key == stored.get("key", stored.get("blob"))


async def test_stream_is_routed_by_its_properties_at_the_start(configure: Any) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield CONTENTS["blue"][2]

    async with configure("x") as registry:
        stream = SerializedDataStream(
            data_stream=chunks(), content_type="application/octet-stream", content_encoding=None
        )
        record = await registry.save_stream(stream)
        assert record.storage_name == NAMES["hot"]  # its size is not known
        async with aclosing(registry.load_stream(record)["data_stream"]) as loaded:
            assert b"".join([chunk async for chunk in loaded]) == CONTENTS["blue"][2]


async def test_each_storage_uses_its_own_credentials(configure: Any, rigs: SimpleNamespace) -> None:
    url = {"url": f"s3://{rigs.hot.bucket}?endpoint_url={rigs.hot.server_url}&region=us-east-1"}
    async with configure("x", storages={"lab": url}) as registry:
        assert (await registry.save(BLOB)).storage_name == NAMES["hot"]
        with pytest.raises(AccessDenied):  # the lab's key opens the lab's bucket alone
            await registry.save(BLOB, storage=NAMES["lab"])


async def test_retired_name_still_loads_and_is_never_saved_to(configure: Any) -> None:
    async with configure("x") as registry:
        record = await registry.save(BLOB)
        former = dataclasses.replace(record, storage_name="tests.config.former@v1")
        assert (await registry.load(former))["data"] == BLOB["data"]
        with pytest.raises(ReadOnlyStorage):
            await registry.save(BLOB, storage=former.storage_name)
