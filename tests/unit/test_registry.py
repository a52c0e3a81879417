"""The registry finds the storage of a record, saves to the right one, and never returns wrong content."""

import hashlib
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakery_cloud import (
    ConfigError,
    IntegrityError,
    InvalidRecord,
    InvalidTags,
    MemoryStorage,
    NameConflict,
    NoStorageData,
    NotRegistered,
    ReadOnlyStorage,
    Route,
    S3Storage,
    StorageRegistry,
    digest_data,
)
from tests.helpers import blob, blob_stream
from tests.unit.registries import Shelf, damage, loaded, record_of, relaxed

Archive = MemoryStorage.named("tests.registry.archive@v1")

CHUNKS = st.lists(st.binary(max_size=40), max_size=10)


class CountedShelf(Shelf):
    """A storage with a length."""

    name = "tests.registry.counted-shelf@v1"

    def __len__(self):
        return len(self.kept)


class HastyShelf(Shelf):
    """A storage that never asks for the digest of a stream."""

    name = "tests.registry.hasty-shelf@v1"

    async def write_data_stream(self, stream, get_digest, tags, /):
        return await self.write_data(b"".join([chunk async for chunk in stream]), {}, tags)


class Reader(Shelf):
    """A storage that reads what another project wrote."""

    name = "tests.registry.reader@v1"
    aliases = ("tests.elsewhere@v1", "tests.elsewhere@v2")


class OtherReader(Shelf):
    """Another storage that reads data of the same project."""

    name = "tests.registry.other-reader@v1"
    aliases = ("tests.elsewhere@v2",)


NamedReader = Reader.named("tests.registry.named-reader@v1")


# Which storage.


def test_a_single_storage_is_the_default():
    storage = MemoryStorage()
    assert StorageRegistry([storage]).default is storage


def test_of_several_storages_none_is_the_default_until_one_is_named():
    storages = [MemoryStorage(), Archive()]
    with pytest.raises(NotRegistered, match=r"no default.*lakery_cloud\.memory@v1, tests\.registry\.archive@v1"):
        _ = StorageRegistry(storages).default
    assert StorageRegistry(storages, default=storages[1]).default is storages[1]
    assert StorageRegistry(storages, default="tests.registry.archive@v1").default is storages[1]


async def test_an_empty_registry_has_no_default_and_saves_nothing():
    registry = StorageRegistry()
    assert registry.names == ()
    with pytest.raises(NotRegistered, match="none"):
        _ = registry.default
    with pytest.raises(NotRegistered):
        await registry.save(blob())


def test_a_default_that_is_no_storage_of_the_registry_becomes_one():
    storage = Archive()
    registry = StorageRegistry([MemoryStorage()], default=storage)
    assert registry.default is storage
    assert registry.get(storage.name) is storage


def test_a_default_of_a_name_that_is_not_registered_is_refused():
    with pytest.raises(NotRegistered, match=r"tests\.registry\.archive@v1"):
        StorageRegistry([MemoryStorage()], default="tests.registry.archive@v1")


def test_a_default_whose_name_another_storage_has_is_refused():
    with pytest.raises(NameConflict):
        StorageRegistry([MemoryStorage("one")], default=MemoryStorage("two"))


def test_two_storages_of_one_name_are_refused_with_the_way_out():
    with pytest.raises(NameConflict, match=r"MemoryStorage\.named\("):
        StorageRegistry([MemoryStorage("one"), MemoryStorage("two")])
    registry = StorageRegistry([MemoryStorage("one")])
    with pytest.raises(NameConflict):
        registry.add(MemoryStorage("two"))


def test_the_same_storage_may_be_added_again():
    storage = MemoryStorage()
    registry = StorageRegistry([storage, storage], default=storage)
    registry.add(storage)
    assert registry.names == (storage.name,)


def test_unknown_name_is_reported_with_the_known_ones():
    with pytest.raises(NotRegistered, match=r"no storage named 'x@v1'.*known are lakery_cloud\.memory@v1"):
        StorageRegistry([MemoryStorage()]).get("x@v1")


async def test_content_goes_to_the_storage_that_was_named():
    memory, archive = MemoryStorage(), Archive()
    registry = StorageRegistry([memory, archive], default=memory)
    assert (await registry.save(blob())).storage_name == memory.name
    assert archive.contents.objects == {}
    for storage in (archive, archive.name):
        assert (await registry.save(blob(), storage=storage)).storage_name == archive.name
    assert len(memory.contents.objects) == len(archive.contents.objects) == 1


async def test_content_never_goes_to_another_storage_than_the_one_that_was_given():
    registered, given_one = MemoryStorage("registered"), MemoryStorage("given")
    registry = StorageRegistry([registered])
    with pytest.raises((NameConflict, NotRegistered)):
        await registry.save(blob(), storage=given_one)
    assert registered.contents.objects == {}


async def test_a_storage_that_is_not_registered_is_refused():
    registry = StorageRegistry([MemoryStorage()])
    for storage in (Archive(), "tests.registry.archive@v1"):
        with pytest.raises(NotRegistered):
            await registry.save(blob(), storage=storage)


def test_empty_storage_with_a_length_is_found():
    shelf = CountedShelf()
    assert StorageRegistry([shelf]).get(shelf.name) is shelf


async def test_closing_the_registry_closes_its_storages():
    shelf, reader = Shelf(), Reader()
    async with StorageRegistry([shelf, reader], default=shelf) as registry:
        assert registry.default is shelf
        assert not shelf.is_closed
    assert shelf.is_closed
    assert reader.is_closed


# Aliases and retired names.


def test_a_storage_serves_the_aliases_of_its_class():
    reader = Reader()
    registry = StorageRegistry([reader, MemoryStorage()])
    assert registry.get("tests.elsewhere@v1") is reader
    s3 = S3Storage("bucket")
    assert StorageRegistry([s3]).get("labox.aws.s3@v1") is s3


def test_a_named_storage_serves_the_aliases_of_its_base_only_where_the_base_is_absent():
    reader, named = Reader(), NamedReader()
    assert StorageRegistry([named]).get("tests.elsewhere@v1") is named
    assert StorageRegistry([named, reader]).get("tests.elsewhere@v1") is reader


def test_alias_of_two_classes_selects_neither():
    reader, other = Reader(), OtherReader()
    registry = StorageRegistry([reader, other])
    assert registry.get("tests.elsewhere@v1") is reader
    with pytest.raises(NotRegistered):
        registry.get("tests.elsewhere@v2")
    registry.retire("tests.elsewhere@v2", other.name)
    assert registry.get("tests.elsewhere@v2") is other


async def test_a_retired_name_loads_what_others_wrote():
    memory = MemoryStorage()
    registry = StorageRegistry([memory, Archive()], default=memory, retired={"tests.old@v1": memory.name})
    record = await registry.save(blob())
    assert (await registry.load(record_of(record, storage_name="tests.old@v1")))["data"] == b"content"
    with pytest.raises(NotRegistered):
        await registry.load(record_of(record, storage_name="tests.older@v1"))


def test_a_name_retired_to_a_retired_one_is_read_by_its_storage():
    memory = MemoryStorage()
    registry = StorageRegistry([memory], retired={"tests.old@v1": memory.name})
    registry.retire("tests.older@v1", "tests.old@v1")
    assert registry.get("tests.older@v1") is memory


def test_a_name_that_is_taken_can_not_be_retired():
    memory, archive = MemoryStorage(), Archive()
    registry = StorageRegistry([memory, archive], retired={"tests.old@v1": memory.name})
    registry.retire("tests.old@v1", memory.name)
    for name in ("tests.old@v1", memory.name):
        with pytest.raises(NameConflict, match="is taken"):
            registry.retire(name, archive.name)


def test_a_name_without_a_reader_can_not_be_retired():
    with pytest.raises(NotRegistered):
        StorageRegistry([MemoryStorage()], retired={"tests.old@v1": "tests.nowhere@v1"})


def test_a_storage_whose_records_another_one_reads_is_refused():
    registry = StorageRegistry([MemoryStorage()], retired={Archive.name: MemoryStorage.name})
    with pytest.raises(NameConflict):
        registry.add(Archive())


async def test_a_retired_storage_loads_and_never_saves():
    memory, archive = MemoryStorage(), Archive()
    record = await StorageRegistry([memory]).save(blob())
    registry = StorageRegistry([memory, archive], retired={memory.name: memory.name})
    assert registry.default is archive
    assert (await registry.load(record))["data"] == b"content"
    for storage in (memory, memory.name):
        with pytest.raises(ReadOnlyStorage, match="retired"):
            await registry.save(blob(), storage=storage)


@pytest.mark.parametrize("name", ["tests.elsewhere@v1", "tests.old@v1"])
async def test_nothing_is_saved_under_a_retired_name(name):
    registry = StorageRegistry([Reader()], retired={"tests.old@v1": Reader.name})
    with pytest.raises(ReadOnlyStorage, match="retired"):
        await registry.save_stream(blob_stream([b"content"]), storage=name)


@pytest.mark.parametrize("name", ["tests.old@v1", "lakery_cloud.memory@v1"])
async def test_nothing_is_deleted_or_to_be_put_under_a_retired_name(name):
    memory, archive = MemoryStorage(), Archive()
    record = await StorageRegistry([memory]).save(blob())
    registry = StorageRegistry([memory, archive], default=archive, retired={name: memory.name})
    retired = record_of(record, storage_name=name)
    with pytest.raises(ReadOnlyStorage, match="deleted"):
        await registry.delete(retired)
    with pytest.raises(ReadOnlyStorage):
        await registry.presign(retired, method="PUT")
    assert (await registry.load(retired))["data"] == b"content"


async def test_storage_without_urls_raises_a_clear_error():
    registry = StorageRegistry([Reader()])
    record = await registry.save(blob())
    with pytest.raises(ConfigError, match="has no URLs"):
        await registry.presign(record)


def test_a_default_or_a_route_that_is_retired_is_refused():
    memory, archive = MemoryStorage(), Archive()
    retired = {archive.name: archive.name}
    with pytest.raises(ReadOnlyStorage):
        StorageRegistry([memory, archive], default=archive, retired=retired)
    with pytest.raises(ReadOnlyStorage):
        StorageRegistry([memory, archive], routes=[Route(storage=archive.name, min_size=1)], retired=retired)


async def test_a_default_that_is_retired_later_never_saves():
    memory = MemoryStorage()
    registry = StorageRegistry([memory], default=memory)
    await registry.save(blob())
    registry.retire(memory.name, memory.name)
    with pytest.raises(ReadOnlyStorage):
        await registry.save(blob())


async def test_a_storage_that_is_added_or_retired_after_a_save_counts_for_the_next_one():
    memory, archive = MemoryStorage(), Archive()
    registry = StorageRegistry([memory])
    assert (await registry.save(blob())).storage_name == memory.name
    registry.add(archive)
    with pytest.raises(NotRegistered, match="no default"):
        await registry.save(blob())
    registry.retire(memory.name, memory.name)
    assert (await registry.save(blob())).storage_name == archive.name


# Saving and loading.


@pytest.mark.parametrize("make", [MemoryStorage, Shelf])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "md5", "blake2b"])
async def test_a_blob_comes_back_as_it_was(make, algorithm):
    registry = StorageRegistry([make()])
    record = await registry.save(blob(b"content", "application/json", "gzip"), algorithm=algorithm)
    assert record.digest == {
        "content_type": "application/json",
        "content_encoding": "gzip",
        "content_hash_algorithm": algorithm,
        "content_hash": hashlib.new(algorithm, b"content").hexdigest(),
        "content_size": 7,
    }
    assert await registry.load(record) == blob(b"content", "application/json", "gzip")


@pytest.mark.parametrize("make", [lambda: MemoryStorage(part_size=50), Shelf], ids=["MemoryStorage", "Shelf"])
@relaxed
@given(chunks=CHUNKS)
async def test_a_stream_comes_back_as_it_was(make, chunks):
    registry = StorageRegistry([make()])
    data = b"".join(chunks)
    record = await registry.save_stream(blob_stream(chunks, "a/b", "br"))
    assert (record.content_hash, record.content_size) == (hashlib.sha256(data).hexdigest(), len(data))
    found = registry.load_stream(record)
    assert (found["content_type"], found["content_encoding"]) == ("a/b", "br")
    assert b"".join([chunk async for chunk in found["data_stream"]]) == data
    assert await registry.load(record) == blob(data, "a/b", "br")


@relaxed
@given(CHUNKS)
async def test_a_blob_and_a_stream_of_the_same_bytes_are_one_object(chunks):
    memory = MemoryStorage(part_size=50)
    registry = StorageRegistry([memory])
    first = await registry.save(blob(b"".join(chunks)))
    second = await registry.save_stream(blob_stream(chunks))
    assert first == second
    assert list(memory.contents.objects) == [first.content_hash]
    assert memory.contents.uploads == {}


async def test_tags_travel_with_the_content():
    memory = MemoryStorage(part_size=5)
    registry = StorageRegistry([memory])
    await registry.save(blob(b"one"), tags={"project": "apollo"})
    await registry.save_stream(blob_stream([b"two and", b" more"]), tags={"project": "gemini"})
    found = {item.data: dict(item.attributes.tags) for item in memory.contents.objects.values()}
    assert found == {b"one": {"project": "apollo"}, b"two and more": {"project": "gemini"}}


async def test_content_that_is_gone_is_no_storage_data():
    for storage in (MemoryStorage(), Shelf()):
        registry = StorageRegistry([storage])
        record = await registry.save(blob())
        (storage.contents.objects if isinstance(storage, MemoryStorage) else storage.kept).clear()
        with pytest.raises(NoStorageData):
            await registry.load(record)
        with pytest.raises(NoStorageData):
            await loaded(registry, record)


async def test_damaged_content_is_an_integrity_error():
    memory = MemoryStorage(part_size=5)
    registry = StorageRegistry([memory])
    record = await registry.save_stream(blob_stream([b"some content", b" of several parts"]))
    damage(memory)
    with pytest.raises(IntegrityError, match=f"sha|{record.content_hash}"):
        await registry.load(record)
    with pytest.raises(IntegrityError):
        await loaded(registry, record)


@pytest.mark.parametrize("damaged", [b"cOntent", b"content.", b"conten", b"", b"contentcontent"], ids=repr)
async def test_the_registry_verifies_for_a_storage_that_does_not(damaged):
    shelf = Shelf()
    registry = StorageRegistry([shelf])
    record = await registry.save(blob())
    assert (await registry.load(record))["data"] == b"content"
    shelf.kept = dict.fromkeys(shelf.kept, damaged)
    with pytest.raises(IntegrityError, match=r"the content from tests\.registry\.shelf@v1 has"):
        await registry.load(record)
    with pytest.raises(IntegrityError):
        await loaded(registry, record)


async def test_a_stream_that_is_left_early_is_closed():
    registry = StorageRegistry([MemoryStorage(max_concurrent_reads=1, part_size=300_000)])
    record = await registry.save_stream(blob_stream([bytes(1_000_000)]))
    for _ in range(3):
        async with aclosing(registry.load_stream(record)["data_stream"]) as chunks:
            assert await anext(chunks)
    assert len(await loaded(registry, record)) == 1_000_000


# A digest that is known already.


async def known(data=b"content", **changes):
    return {**await digest_data(blob(data)), **changes}


def unreadable():
    async def explode():
        raise AssertionError("the stream was read")
        yield b""

    return {"data_stream": explode(), "content_type": "text/plain", "content_encoding": None}


async def test_content_that_is_stored_already_is_not_read_again():
    registry = StorageRegistry([MemoryStorage()])
    record = await registry.save(blob())
    assert await registry.save_stream(unreadable(), digest=await known()) == record


async def test_content_that_is_not_stored_yet_is_sent_and_compared():
    for storage in (MemoryStorage(part_size=3), Shelf()):
        registry = StorageRegistry([storage])
        record = await registry.save_stream(blob_stream([b"con", b"tent"]), digest=await known())
        assert record.digest == await known()
        assert (await registry.load(record))["data"] == b"content"


@pytest.mark.parametrize("part_size", [3, 100], ids=["many parts", "one part"])
@pytest.mark.parametrize("data", [b"cOntent", b"conten", b"contents", b""], ids=repr)
async def test_stream_with_another_digest_is_not_stored(data, part_size):
    memory = MemoryStorage(part_size=part_size)
    with pytest.raises(IntegrityError, match="its digest says"):
        await StorageRegistry([memory]).save_stream(blob_stream([data]), digest=await known())
    assert memory.contents.objects == {}
    assert memory.contents.uploads == {}


@pytest.mark.parametrize("make", [Shelf, HastyShelf])
async def test_a_wrong_stream_is_noticed_whatever_the_storage_checks(make):
    with pytest.raises(IntegrityError, match="its digest says"):
        await StorageRegistry([make()]).save_stream(blob_stream([b"cOntent"]), digest=await known())


async def test_the_record_of_a_known_digest_is_the_same_whether_it_was_stored_or_not():
    registry = StorageRegistry([MemoryStorage()])
    digest = await known(content_type="application/json")
    first = await registry.save_stream(blob_stream([b"content"], "text/plain"), digest=digest)
    second = await registry.save_stream(blob_stream([b"content"], "text/plain"), digest=digest)
    assert first == second


async def test_a_digest_that_cannot_be_true_is_refused_before_the_stream_is_read():
    for changes in ({"content_size": -1}, {"content_hash": "../etc"}):
        with pytest.raises(InvalidRecord):
            await StorageRegistry([MemoryStorage()]).save_stream(unreadable(), digest=await known(**changes))


async def test_bad_tags_are_refused_also_where_nothing_is_sent():
    registry = StorageRegistry([MemoryStorage()])
    await registry.save(blob())
    with pytest.raises(InvalidTags):
        await registry.save_stream(blob_stream([b"content"]), digest=await known(), tags={"näme": "x"})


@pytest.mark.parametrize("is_known", [False, True], ids=["unknown digest", "known digest"])
async def test_a_source_is_closed_when_its_stream_cannot_be_saved(is_known):
    is_closed = []

    async def source():
        try:
            yield b"fine"
            yield "not bytes"
        finally:
            is_closed.append(True)

    stream = {"data_stream": source(), "content_type": "a/b", "content_encoding": None}
    digest = await known() if is_known else None
    with pytest.raises(TypeError):
        await StorageRegistry([MemoryStorage(part_size=2)]).save_stream(stream, digest=digest)
    assert is_closed == [True]
