"""Storage data and records from an attacker: refused before any request, or harmless; never another exception, never elsewhere."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakery_cloud import (
    AzureBlobStorage,
    ContentRecord,
    FileStorage,
    GCSStorage,
    InvalidRecord,
    LakeryCloudError,
    MemoryStorage,
    NoStorageData,
    NotRegistered,
    ObjectStorage,
    S3Storage,
    SerializedData,
    StorageRegistry,
)
from lakery_cloud.engine.keys import is_temporary
from lakery_cloud.errors import LONGEST_QUOTE, brief
from lakery_cloud.testing import digest_of
from lakery_cloud.testing.faults import FaultProxy
from tests.attack.cases import cases, counted
from tests.rigs.base import CloudRig, PairRig
from tests.security.audit import Deeds, watched
from tests.security.hostile import JUNK, MB, refused, uses

DATA = b"content that stays"
DIGEST = digest_of(DATA)
LONGEST_MESSAGE = 3 * LONGEST_QUOTE + 500


class Scene:
    """A storage with content, and what leads to it."""

    def __init__(self, rig: PairRig, storage: ObjectStorage[Any], storage_data: Any, proxy: FaultProxy | None) -> None:
        self.rig, self.storage, self.storage_data, self.proxy = rig, storage, storage_data, proxy

    async def check_untouched(self) -> None:
        assert await self.storage.read_data(self.storage_data) == DATA
        assert await self.rig.keys() == [self.storage_data[self.storage.place_names[-1]]]

    def check_no_request(self, deeds: Deeds) -> None:
        assert (deeds.addresses, deeds.names) == (set(), set())
        assert self.proxy is None or self.proxy.exchanges == []

    def check_only_its_server(self, deeds: Deeds) -> None:
        """Clients connect to the proxy, and the proxy, which is in this process, to the server."""
        urls = [urlsplit(url) for url in (self.proxy.url, self.rig.server_url)] if self.proxy else []
        assert deeds.addresses <= {(url.hostname, url.port) for url in urls}
        assert deeds.names <= {url.hostname for url in urls}


@pytest.fixture
async def scene(rig: PairRig) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        proxy = None
        if isinstance(rig, CloudRig) and not rig.is_live:
            proxy = await stack.enter_async_context(FaultProxy(rig.server_url))
            rig.point_to(proxy.url)
        storage = await stack.enter_async_context(rig.storage())
        storage_data = await storage.write_data(DATA, DIGEST, {})
        if proxy is not None:
            proxy.exchanges.clear()
        yield Scene(rig, storage, storage_data, proxy)


async def test_malformed_storage_data_is_refused_before_any_request(scene: Scene) -> None:
    hostile = refused(scene.storage_data, scene.storage.place_names)
    assert len(hostile) > 80
    with watched() as deeds:
        for label, storage_data in hostile.items():
            for name, use in uses(scene.storage, DIGEST).items():
                try:
                    await use(storage_data)
                except InvalidRecord as error:
                    assert len(str(error)) < LONGEST_MESSAGE, f"{name} of {label}"
                except Exception as error:
                    raise AssertionError(f"{name} of {label} raises {error!r:.300}") from error
                else:
                    raise AssertionError(f"{name} takes {label}")
    scene.check_no_request(deeds)
    await scene.check_untouched()


async def test_settings_in_storage_data_are_ignored(scene: Scene) -> None:
    with watched() as deeds:
        storage_data = {**JUNK, **scene.storage_data}
        assert await scene.storage.read_data(storage_data) == DATA
        assert (await scene.storage.stat(storage_data)).info.size == len(DATA)
        assert scene.storage.complete_storage_data(storage_data, DIGEST) == scene.storage_data
        record = ContentRecord(
            **DIGEST,
            storage_name=scene.storage.name,
            storage_data=scene.storage.serialize_storage_data({**JUNK, "verify": "no", **scene.storage_data}),
        )
        loaded = await StorageRegistry([scene.storage]).load(ContentRecord.from_json(record.to_json()))
        assert loaded["data"] == DATA
        # Nor do they turn the check of the content off.
        with pytest.raises(LakeryCloudError, match="hash"):
            await scene.storage.read_data({**storage_data, "hash": f"sha256:{'0' * 64}"})
    scene.check_only_its_server(deeds)
    if scene.proxy is not None:
        for exchange in scene.proxy.exchanges:
            assert "evil" not in f"{exchange.target} {exchange.headers}"
    await scene.check_untouched()


@pytest.mark.parametrize(
    "key",
    [
        *(
            "%2e%2e/x",
            "%2e%2e%2fx",
            "x%00",
            "x?versionId=1",
            "x?a=b&c",
            "x#y",
            "x;y",
            "x%0d%0aHost:evil",
            "*",
            "|",
            "CON",
        ),
        *(
            "é" * 100,
            "\u00e9",
            "e\u0301",
            "\u202e",
            "😀",
            "x" * 200,
            ".tmp",
            ".tmp/x",
            "...",
            "a/...",
            "~",
            "C:",
            "nul",
        ),
    ],
)
async def test_unusual_keys_name_no_content(scene: Scene, key: str) -> None:
    storage_data = {**scene.storage_data, scene.storage.place_names[-1]: key}
    with watched() as deeds:
        for name, use in uses(scene.storage, DIGEST).items():
            if name == "complete_storage_data":
                continue
            try:
                await use(storage_data)
            except LakeryCloudError as error:
                assert isinstance(error, NoStorageData) or len(str(error)) < LONGEST_MESSAGE
            else:
                assert name == "delete", f"{name} finds something"
    scene.check_only_its_server(deeds)
    await scene.check_untouched()


OFFLINE = (
    MemoryStorage(),
    FileStorage("/nowhere"),
    S3Storage("bucket", endpoint_url="http://127.0.0.1:9"),
    GCSStorage("bucket", token="anon", endpoint_url="http://127.0.0.1:9"),
    AzureBlobStorage("bucket", account_name="me", endpoint_url="http://127.0.0.1:9"),
)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
odd_text = st.one_of(
    st.text(),
    st.text("./\\%:@?#-_$ab\0\n\ud800é", max_size=30),
    st.lists(st.sampled_from(["..", ".", "", ".tmp", "a", "20240102T030405Z-a", "sha256:ab", "..."]), max_size=5).map(
        "/".join
    ),
)


@pytest.mark.parametrize("storage", OFFLINE, ids=lambda storage: type(storage).__name__)
@given(st.data())
@cases(150)
def test_accepted_storage_data_names_a_safe_place(storage: ObjectStorage[Any], data: st.DataObject) -> None:
    value = junk | odd_text
    names = (*storage.place_names, "hash", "size", "user_project")
    counted["hostile records"] += 1
    storage_data = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(names, value)) | junk)
    try:
        found = storage.complete_storage_data(storage_data, DIGEST)
    except LakeryCloudError as error:
        assert len(str(error)) < LONGEST_MESSAGE
        return
    assert set(found) <= set(names)
    *bucket, key = (found[name] for name in storage.place_names)
    assert key == storage_data[storage.place_names[-1]]
    assert not {"..", "."} & set(key.replace("\\", "/").split("/"))
    assert key.isprintable() or not any(ord(character) < 32 for character in key)
    assert not is_temporary(key)
    for name in bucket:
        assert name.isascii()
        assert not set(name) & set("/\\:@?#% \0\n")
    assert "\n" not in str(found.get("user_project", ""))


def a_record(**changes: Any) -> str:
    storage_data = MemoryStorage().storage_data_of(DIGEST)
    record = {**DIGEST, "storage_name": MemoryStorage.name, "storage_data": json.dumps(storage_data), **changes}
    return json.dumps(record)


HOSTILE_RECORDS = {
    "nothing": "",
    "no JSON": "{",
    "a list": "[]",
    "null": "null",
    "a number": "5",
    "a number of 10,000 digits": "1" * 10_000,
    "nested deeply": "[" * 100_000,
    "nested deeply in an object": '{"a":' * 100_000,
    "no UTF-8": b"\xff\xfe\x00",
    "a byte order mark": "\ufeff{}",
    "an endpoint": a_record(endpoint_url="http://127.0.0.2:9"),
    "credentials": a_record(credentials={"aws_access_key_id": "evil"}),
    "a storage that is not registered": a_record(storage_name="lakery_cloud.s3@v1"),
    "a class of Python": a_record(storage_name="lakery_cloud.providers.s3.S3Storage"),
    "a name of a megabyte": a_record(storage_name="x" * MB),
    "storage data of a megabyte": a_record(storage_data="x" * MB),
    "storage data that is an object": a_record(storage_data={"key": "a"}),
    "storage data nested deeply": a_record(storage_data="[" * 100_000),
    "storage data with NaN": a_record(storage_data='{"key": NaN}'),
    "storage data with a surrogate": a_record(storage_data='{"key": "\\ud800"}'),
    "storage data with a large number": a_record(storage_data=json.dumps({"key": "a", "size": 10**4000})),
    "a size of true": a_record(content_size=True),
    "a large size": a_record(content_size=10**4000),
    "a negative size": a_record(content_size=-1),
    "an algorithm without length": a_record(content_hash_algorithm="shake_128"),
    "an unknown algorithm": a_record(content_hash_algorithm="x" * MB),
    "an algorithm with NUL": a_record(content_hash_algorithm="sha256\0"),
    "a hash that is a path": a_record(content_hash="../" * 21 + "a"),
    "a hash of a megabyte": a_record(content_hash="a" * MB),
    "a type with a line break": a_record(content_type="text/plain\r\nX-Evil: 1"),
    "an encoding with a line break": a_record(content_encoding="gzip\r\nX-Evil: 1"),
    **{
        f"{name} is {value!r}": a_record(**{name: value})
        for name in (*DIGEST, "storage_name")
        for value in ([], {}, 1.5)
    },
}


@pytest.mark.parametrize("text", HOSTILE_RECORDS.values(), ids=HOSTILE_RECORDS)
async def test_hostile_record_raises_an_error_of_ours(text: str | bytes) -> None:
    registry = StorageRegistry([MemoryStorage()])
    with watched() as deeds, pytest.raises(LakeryCloudError) as raised:
        await registry.load(ContentRecord.from_json(text))
    assert len(str(raised.value)) < LONGEST_MESSAGE
    assert (deeds.addresses, deeds.names) == (set(), set())


@pytest.mark.parametrize("name", ["lakery_cloud.s3@v2", "", "labox.aws.s3@v1", "os.system", "../x", "\0"])
async def test_records_choose_only_registered_storages(name: str) -> None:
    with pytest.raises(NotRegistered):
        await StorageRegistry([MemoryStorage()]).load(ContentRecord.from_json(a_record(storage_name=name)))


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(json.loads(a_record()), junk | odd_text)))
@cases(150)
def test_changed_records_raise_errors_of_ours(changes: dict[str, Any]) -> None:
    counted["hostile records"] += 1
    registry = StorageRegistry([MemoryStorage()])
    with pytest.raises(LakeryCloudError) as raised:
        asyncio.run(registry.load(ContentRecord.from_json(a_record(**changes))))
    assert len(str(raised.value)) < LONGEST_MESSAGE


async def test_record_made_without_json_is_checked_as_it_is_loaded() -> None:
    async with StorageRegistry([MemoryStorage()]) as registry:
        blob = SerializedData(data=DATA, content_type="text/plain", content_encoding=None)
        good = asdict(await registry.save(blob))
        assert (await registry.load(ContentRecord(**good)))["data"] == DATA
        for changes in ({"storage_data": 5}, {"storage_name": []}, {"content_hash": 5}, {"content_size": "1"}):
            with pytest.raises(InvalidRecord):
                await registry.load(ContentRecord(**{**good, **changes}))


@pytest.mark.parametrize(
    "value",
    ["x" * MB, b"x" * MB, ["x" * MB], 10**5000, "é\n\x1b", {"a": ["b"]}],
    ids=lambda value: type(value).__name__,
)
def test_quotes_in_messages_are_short_and_printable(value: object) -> None:
    assert len(brief(value)) <= LONGEST_QUOTE + 3
    assert brief(value).isprintable()


@pytest.mark.parametrize("project", ["a&alt=media", "a\r\nb", "a/b", "", "x" * 101, 5, True, [], "\ud800", "A"])
def test_payer_in_storage_data_is_the_name_of_a_project(project: Any) -> None:
    storage = GCSStorage("bucket", token="anon")
    with pytest.raises(InvalidRecord, match="user_project"):
        storage.complete_storage_data({"bucket": "bucket", "blob": "a", "user_project": project}, DIGEST)
    for name in ("my-project", "example.com:my-project", "123456789012"):
        data = {"bucket": "bucket", "blob": "a", "user_project": name}
        assert storage.complete_storage_data(data, DIGEST)["user_project"] == name
