"""Storage classes: permanent names, copies, and storage data as a string."""

import copy
import gc
import importlib
import itertools
import os
import pickle
import subprocess
import sys
import types
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lakery_cloud
from lakery_cloud import (
    ConfigError,
    InvalidRecord,
    MemoryStorage,
    NameConflict,
    Storage,
    digest_data,
)

relaxed = settings(deadline=None)

JSON_LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON_VALUES = st.recursive(
    JSON_LEAVES,
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=20,
)


class Nowhere:
    """The four methods of a storage that keeps nothing."""

    async def write_data(self, data, digest, tags, /):
        return {}

    async def read_data(self, storage_data, /):
        return b""

    async def write_data_stream(self, stream, get_digest, tags, /):
        return {}

    async def read_data_stream(self, storage_data, /) -> AsyncGenerator[bytes]:
        yield b""


class OfNamed(MemoryStorage.named("tests.contract.base@v1")):
    name = "tests.contract.of-named@v1"


_numbers = itertools.count(1)


def define(*bases, qualname=None, **body):
    """Define a storage class as a class statement would."""
    namespace = {"__qualname__": qualname or f"Defined{next(_numbers)}", **body}
    return types.new_class("Defined", bases or (Nowhere, Storage), exec_body=lambda target: target.update(namespace))


async def stored(storage, data=b"content"):
    digest = await digest_data({"data": data, "content_type": "text/plain", "content_encoding": None})
    return await storage.write_data(data, digest, {})


# Names.


def test_a_concrete_storage_needs_a_name():
    with pytest.raises(ConfigError, match=r"Nameless.*permanent, versioned name.*None"):

        class Nameless(Nowhere, Storage):
            pass


@pytest.mark.parametrize(
    "name",
    [
        *("", "plain", "tests.plain", "@v1", "tests@", "tests@1", "tests@v", "tests@v0", "tests@v01", "tests@v1.2"),
        *("tests@v-1", "tests@V1", ".tests@v1", "tests.@v1", "te..sts@v1", "te sts@v1", "tests@v1 ", "tests@v1\n"),
        *("tésts@v1", "tests@v1@v2", "tests/x@v1", "tests@v١", b"tests@v1", 1, ("tests@v1",)),
    ],
)
def test_name_without_a_version_or_with_unusual_characters_is_refused(name):
    with pytest.raises(ConfigError, match="permanent, versioned name"):
        define(name=name)


@pytest.mark.parametrize("name", ["tests-names@v1", "tests.names.a_b-C9@v1", "9@v10", "tests.names.deep.er@v123456"])
def test_dotted_names_with_a_version_are_accepted(name):
    assert define(name=name).name == name


def test_a_name_that_another_class_has_is_refused_and_both_are_named():
    holder = define(name="tests.contract.taken@v1", qualname="Holder")
    for _ in range(2):  # the one that was refused did not take the name either
        with pytest.raises(NameConflict, match=r"'tests.contract.taken@v1' of Newcomer is taken by .*\.Holder"):
            define(name=holder.name, qualname="Newcomer")


def test_subclass_of_a_concrete_storage_needs_a_new_name():
    parent = define(name="tests.contract.parent@v1")
    with pytest.raises(NameConflict, match="a name of its own"):
        define(parent)


def test_the_name_of_a_class_that_is_gone_is_free_again():
    define(name="tests.contract.gone@v1", qualname="Gone")
    gc.collect()
    assert define(name="tests.contract.gone@v1", qualname="Successor").__qualname__ == "Successor"


def test_redefined_class_keeps_its_name():
    first = define(name="tests.contract.cell@v1", qualname="Cell")
    second = define(name="tests.contract.cell@v1", qualname="Cell")
    assert first is not second
    with pytest.raises(NameConflict):
        define(name="tests.contract.cell@v1", qualname="Other")


def test_a_module_with_a_storage_can_be_reloaded(tmp_path, monkeypatch):
    (tmp_path / "reloaded_storage.py").write_text(
        "from lakery_cloud import MemoryStorage\n\n\n"
        'class Reloaded(MemoryStorage):\n    name = "tests.contract.reloaded@v1"\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("reloaded_storage")
    first = module.Reloaded
    assert importlib.reload(module).Reloaded is not first


def test_abstract_classes_in_between_need_no_name():
    between = define(Storage, write_data=Nowhere.write_data)
    assert not hasattr(between, "name")
    with pytest.raises(TypeError, match="abstract"):
        between()
    assert (
        define(Nowhere, between, name="tests.contract.below-abstract@v1")().name == "tests.contract.below-abstract@v1"
    )


def test_generic_storages_need_no_name_until_they_are_concrete():
    assert define(Nowhere, Storage[dict[str, str]], name="tests.contract.generic@v1")() is not None
    with pytest.raises(ConfigError):
        define(Nowhere, Storage[dict[str, str]])


# Named classes.


def test_named_gives_the_same_class_each_time():
    first = MemoryStorage.named("tests.contract.again@v1")
    assert MemoryStorage.named("tests.contract.again@v1") is first
    assert first is not MemoryStorage
    assert issubclass(first, MemoryStorage)
    assert first.name == "tests.contract.again@v1"
    assert MemoryStorage.name == "lakery_cloud.memory@v1"


def test_named_refuses_the_name_of_another_class():
    with pytest.raises(NameConflict):
        MemoryStorage.named("lakery_cloud.memory@v1")
    other = define(name="tests.contract.other@v1")
    other.named("tests.contract.named-other@v1")
    with pytest.raises(NameConflict):
        MemoryStorage.named("tests.contract.named-other@v1")


@pytest.mark.parametrize("name", ["", "archive", "archive@1"])
def test_named_refuses_a_name_without_a_version(name):
    with pytest.raises(ConfigError):
        MemoryStorage.named(name)


def test_named_never_returns_a_class_of_another_definition():
    with pytest.raises(NameConflict):
        MemoryStorage.named(OfNamed.name)


async def test_a_named_storage_works_as_its_base_does():
    storage = MemoryStorage.named("tests.contract.works@v1")("bucket", prefix="p")
    storage_data = await stored(storage)
    assert storage_data["key"].startswith("p/")
    assert await storage.read_data(storage_data) == b"content"


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
async def test_a_named_storage_pickles_as_itself(protocol):
    storage = MemoryStorage.named("tests.contract.pickled@v1")("bucket", prefix="p", part_size=77)
    storage_data = await stored(storage)
    twin = pickle.loads(pickle.dumps(storage, protocol))
    assert type(twin) is type(storage)
    assert (twin.keys.bucket, twin.keys.prefix, twin.settings) == ("bucket", "p", storage.settings)
    assert await twin.read_data(storage_data) == b"content"


async def test_named_storage_is_unpickled_by_a_process_that_did_not_define_it():
    storage = MemoryStorage.named("tests.contract.travels@v1")("bucket")
    storage_data = await stored(storage)
    assert unpickled_elsewhere(storage, storage_data) == "MemoryStorage tests.contract.travels@v1 content"


async def test_a_named_storage_can_be_copied():
    storage = MemoryStorage.named("tests.contract.copied@v1")("bucket")
    twin = copy.deepcopy(storage)
    assert type(twin) is type(storage)
    storage_data = await stored(twin)
    assert await twin.read_data(storage_data) == b"content"
    assert storage.contents.objects == {}


async def test_a_subclass_of_a_named_class_pickles_as_itself(tmp_path, monkeypatch):
    (tmp_path / "below_named.py").write_text(
        "from lakery_cloud import MemoryStorage\n\n\n"
        'class BelowNamed(MemoryStorage.named("tests.contract.above@v1")):\n    name = "tests.contract.below@v1"\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    storage = importlib.import_module("below_named").BelowNamed("bucket")
    storage_data = await stored(storage)
    found = unpickled_elsewhere(storage, storage_data, str(tmp_path))
    assert found == "BelowNamed tests.contract.below@v1 content"


def unpickled_elsewhere(storage, storage_data, *folders):
    """Class, name and content of a storage, as a new process sees them."""
    program = (
        "import asyncio, pickle, sys\n"
        "storage, storage_data = pickle.load(sys.stdin.buffer)\n"
        "print(type(storage).__name__, storage.name, asyncio.run(storage.read_data(storage_data)).decode())\n"
    )
    path = os.pathsep.join([str(Path(lakery_cloud.__file__).parents[1]), *folders])
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=pickle.dumps((storage, storage_data)),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": path},
        check=True,
    )
    return done.stdout.decode().strip()


# Storage data as a string.


@relaxed
@given(JSON_VALUES)
def test_storage_data_survives_its_string(value):
    storage = MemoryStorage()
    assert storage.deserialize_storage_data(storage.serialize_storage_data(value)) == value


@relaxed
@given(st.dictionaries(st.text(), JSON_LEAVES | st.dictionaries(st.text(), JSON_LEAVES), min_size=2))
def test_equal_storage_data_gives_equal_strings(value):
    backwards = dict(reversed(value.items()))
    storage = MemoryStorage()
    assert storage.serialize_storage_data(backwards) == storage.serialize_storage_data(value)


def test_storage_data_is_compact_json_with_sorted_keys():
    assert MemoryStorage().serialize_storage_data({"b": [1, None], "a": "é"}) == '{"a":"\\u00e9","b":[1,null]}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]])
def test_storage_data_that_is_no_json_number_is_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        MemoryStorage().serialize_storage_data(value)


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", "\ud800", "9" * 5000], ids=repr)
def test_a_string_that_is_no_json_is_an_invalid_record_of_that_storage(text):
    with pytest.raises(InvalidRecord, match=r"lakery_cloud\.memory@v1"):
        MemoryStorage().deserialize_storage_data(text)


def test_a_string_that_nests_too_deeply_is_an_invalid_record():
    with pytest.raises(InvalidRecord):
        MemoryStorage().deserialize_storage_data("[" * 100_000)


# Defaults.


async def test_a_storage_that_implements_no_more_than_it_must_has_defaults():
    storage = define(name="tests.contract.minimal@v1")()
    digest = await digest_data({"data": b"", "content_type": "a/b", "content_encoding": None})
    assert await storage.find(digest) is None
    assert storage.complete_storage_data({"key": "k"}, digest) == {"key": "k"}
    assert storage.verifies_reads is False
    assert storage.aliases == ()
    async with storage as entered:
        assert entered is storage
    await storage.aclose()
