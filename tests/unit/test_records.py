"""Records survive their JSON, are checked when they are read, and agree with their storage data."""

import dataclasses
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakery_cloud import ConfigError, ContentRecord, IntegrityError, InvalidRecord, MemoryStorage, StorageRegistry
from tests.helpers import blob
from tests.unit.registries import RECORD, Shelf, damage, loaded, record_of, relaxed

# Records.

VISIBLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1)
RECORDS = st.builds(
    lambda data, algorithm, **fields: ContentRecord(
        content_hash=hashlib.new(algorithm, data).hexdigest(),
        content_hash_algorithm=algorithm,
        content_size=len(data),
        **fields,
    ),
    data=st.binary(),
    algorithm=st.sampled_from(["sha256", "sha512", "md5", "blake2b"]),
    content_type=VISIBLE.filter(lambda text: not text.startswith(" ")),
    content_encoding=st.none() | VISIBLE.filter(lambda text: not text.startswith(" ")),
    storage_name=st.text(),
    storage_data=st.text(),
)


@relaxed
@given(RECORDS)
def test_a_record_survives_its_json(record):
    text = record.to_json()
    assert ContentRecord.from_json(text) == record
    assert ContentRecord.from_json(text.encode()) == record
    assert text.isascii()
    assert "\n" not in text
    assert list(json.loads(text)) == sorted(json.loads(text))


async def test_a_record_that_was_saved_loads_after_its_json():
    registry = StorageRegistry([MemoryStorage(), Shelf()], default=MemoryStorage.name)
    for name in registry.names:
        record = await registry.save(blob(), storage=name)
        assert (await registry.load(ContentRecord.from_json(record.to_json())))["data"] == b"content"


@relaxed
@given(st.text() | st.binary())
def test_text_that_is_no_record_is_refused(text):
    with pytest.raises(InvalidRecord):
        ContentRecord.from_json(text)


@pytest.mark.parametrize("text", ["null", "[]", "7", '"record"', "{}", "NaN", "9" * 5000], ids=lambda text: text[:10])
def test_json_that_is_no_record_is_refused(text):
    with pytest.raises(InvalidRecord):
        ContentRecord.from_json(text)


def test_json_that_nests_too_deeply_is_refused():
    with pytest.raises(InvalidRecord):
        ContentRecord.from_json("[" * 100_000)


@pytest.mark.parametrize("field", dataclasses.asdict(RECORD))
def test_a_record_with_a_field_missing_is_refused(field):
    values = {name: value for name, value in dataclasses.asdict(RECORD).items() if name != field}
    with pytest.raises(InvalidRecord, match=f"with the fields .*{field}"):
        ContentRecord.from_json(json.dumps(values))


def test_a_record_with_an_unknown_field_is_refused():
    with pytest.raises(InvalidRecord, match="with the fields"):
        ContentRecord.from_json(json.dumps({**dataclasses.asdict(RECORD), "extra": 1}))


NO_TEXT = st.integers() | st.booleans() | st.lists(st.text()) | st.dictionaries(st.text(), st.text())


@relaxed
@given(st.sampled_from([field.name for field in dataclasses.fields(ContentRecord)]), NO_TEXT)
def test_a_field_of_another_type_is_refused(field, value):
    if field == "content_size" and type(value) is int:
        value = -1 - abs(value)
    with pytest.raises(InvalidRecord):
        ContentRecord.from_json(json.dumps({**dataclasses.asdict(RECORD), field: value}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("content_hash", "0" * 63),
        ("content_hash", "G" * 64),
        ("content_hash", RECORD.content_hash.upper()),
        ("content_hash", f"{RECORD.content_hash}\n"),
        ("content_size", -1),
        ("content_size", 7.0),
        ("content_size", "7"),
        ("content_size", None),
        ("content_type", ""),
        ("content_type", None),
        ("content_type", "a/b\r\nx: y"),
        ("content_encoding", "gz\x00ip"),
        ("storage_name", None),
        ("storage_data", None),
        ("storage_data", {"key": "k"}),
    ],
)
def test_a_malformed_field_is_refused_by_its_name(field, value):
    with pytest.raises(InvalidRecord, match=field):
        ContentRecord.from_json(json.dumps({**dataclasses.asdict(RECORD), field: value}))


def test_a_record_of_an_unknown_algorithm_is_refused():
    with pytest.raises(ConfigError):
        ContentRecord.from_json(json.dumps({**dataclasses.asdict(RECORD), "content_hash_algorithm": "sha257"}))


# A record and its storage data.


def changed(record, **changes):
    """Return the record with other storage data; None removes a field."""
    values = {**json.loads(record.storage_data), **changes}
    return record_of(
        record, storage_data=json.dumps({name: value for name, value in values.items() if value is not None})
    )


async def test_a_record_that_contradicts_its_storage_data_is_an_integrity_error():
    registry = StorageRegistry([MemoryStorage()])
    record = await registry.save(blob())
    other = hashlib.sha256(b"other").hexdigest()
    for contradicting in (
        record_of(record, content_hash=other),
        record_of(record, content_size=8),
        record_of(record, content_hash_algorithm="sha3_256"),
        changed(record, hash=f"sha256:{other}"),
        changed(record, size=8),
    ):
        with pytest.raises(IntegrityError, match="the record says"):
            await registry.load(contradicting)


async def test_storage_data_without_hash_and_size_is_completed_from_the_record_and_verified():
    memory = MemoryStorage()
    registry = StorageRegistry([memory])
    record = changed(await registry.save(blob()), hash=None, size=None)
    assert json.loads(record.storage_data) == {"key": record.content_hash}
    assert (await registry.load(record))["data"] == b"content"
    assert await loaded(registry, record) == b"content"
    damage(memory)
    with pytest.raises(IntegrityError):
        await registry.load(record)
    with pytest.raises(IntegrityError):
        await loaded(registry, record)


@pytest.mark.parametrize("missing", ["hash", "size"])
async def test_storage_data_without_one_of_the_two_is_completed_too(missing):
    memory = MemoryStorage()
    registry = StorageRegistry([memory])
    record = changed(await registry.save(blob()), **{missing: None})
    assert (await registry.load(record))["data"] == b"content"
    damage(memory)
    with pytest.raises(IntegrityError):
        await registry.load(record)


async def test_content_of_another_record_is_an_integrity_error():
    registry = StorageRegistry([MemoryStorage()])
    record, other = await registry.save(blob(b"content")), await registry.save(blob(b"another"))
    swapped = changed(record, key=json.loads(other.storage_data)["key"])
    with pytest.raises(IntegrityError):
        await registry.load(swapped)


@pytest.mark.parametrize(
    "storage_data",
    [
        *("", "{", "[]", "null", "7", '"key"', "{}", '{"key": ""}', '{"key": 7}', '{"key": null}'),
        *('{"key": "k", "hash": 7}', '{"key": "k", "hash": "abc"}', '{"key": "k", "size": -1}'),
        *('{"key": "k", "size": "7"}', '{"key": "k", "size": 7.5}', '{"key": ["k"]}'),
    ],
)
async def test_malformed_storage_data_is_an_invalid_record(storage_data):
    registry = StorageRegistry([MemoryStorage()])
    with pytest.raises(InvalidRecord):
        await registry.load(record_of(RECORD, storage_data=storage_data))
