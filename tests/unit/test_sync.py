"""Blocking calls: the asynchronous methods under their own names, from any thread, interrupted cleanly."""

import inspect
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import ContextVar

import pytest

import lakery_cloud
from lakery_cloud import (
    BucketNotFound,
    ConfigError,
    IntegrityError,
    MemoryStorage,
    NoStorageData,
    Storage,
    StorageRegistry,
    sync,
)
from lakery_cloud.testing import content, digest_of, tap
from tests.helpers import blob, run_python, wait_until

PART = 1024
DATA = content(5 * PART)
WITHOUT_WARNINGS_OF_FORKS = ("-W", "ignore::DeprecationWarning")

WITHOUT_BLOCKING = {"aclose", "transport"}
"""`close` closes; the requests of a transport stay asynchronous."""
BLOCKING_ONLY = {"close", "open_stream", "wrapped"}
"""A file of the asynchronous registry is for worker threads, so its `open_stream` has a documentation of its own."""


def memory(**options):
    return MemoryStorage(part_size=PART, **options)


def stream(chunks):
    return {"data_stream": chunks, "content_type": "x/y", "content_encoding": None}


def pieces(data=DATA, size=700):
    for start in range(0, len(data), size):
        yield data[start : start + size]


def is_asynchronous(method):
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        return True
    returned = str(inspect.signature(method).return_annotation)
    return "AsyncGenerator" in returned or "DataStream" in returned


def public(cls):
    return {name: member for name, member in inspect.getmembers(cls) if not name.startswith("_")}


# The two surfaces.


@pytest.mark.parametrize("name", ["StorageRegistry", "Storage", "ObjectStorage"])
def test_every_asynchronous_method_is_there_with_its_signature_and_its_documentation(name):
    blocking, original = public(getattr(sync, name)), public(getattr(lakery_cloud, name))
    asynchronous = {
        method for method, member in original.items() if inspect.isfunction(member) and is_asynchronous(member)
    }
    assert set(blocking) - BLOCKING_ONLY == asynchronous - WITHOUT_BLOCKING
    for method in asynchronous - WITHOUT_BLOCKING:
        assert str(inspect.signature(blocking[method])) == str(inspect.signature(original[method]))
        assert blocking[method].__doc__ == original[method].__doc__


def test_open_returns_the_counterpart_of_its_argument():
    class Shelf(Storage):
        name = "tests.sync.shelf@v1"
        write_data = read_data = write_data_stream = read_data_stream = None

    for target, expected in (
        (StorageRegistry(), sync.StorageRegistry),
        (memory(), sync.ObjectStorage),
        (Shelf(), sync.Storage),
    ):
        with sync.open(target) as opened:
            assert type(opened) is expected
            assert opened.wrapped is target


# Calls.


async def test_a_storage_works_while_a_loop_is_running(rig):
    data = content(3 * rig.part_size + 1)
    with sync.open(StorageRegistry([rig.storage()])) as registry:
        saved = registry.save_stream(stream(pieces(data, rig.part_size // 2)), tags={"a": "b"})
        assert b"".join(registry.load_stream(saved)["data_stream"]) == data
        assert registry.load(saved)["data"] == data
        assert [info.size for info in registry.list()] == [len(data)]
        assert registry.exists(saved)
        registry.delete(saved)
        assert not registry.exists(saved)
    await rig.check_nothing_left()


def test_a_storage_saves_and_loads_without_a_registry():
    with sync.open(memory()) as storage:
        digest = digest_of(DATA)
        storage_data = storage.write_data_stream(pieces(), lambda **_: {**digest, "is_complete": True}, {})
        assert storage.find(digest) == storage_data
        assert storage.stat(storage_data).info.size == len(DATA)
        assert b"".join(storage.read_data_stream(storage_data)) == storage.read_data(storage_data) == DATA


def test_errors_come_out_with_their_own_type():
    with sync.open(StorageRegistry([memory()])) as registry:
        saved = registry.save(blob(DATA))
        registry.delete(saved)
        with pytest.raises(NoStorageData):
            registry.load(saved)
        with pytest.raises(NoStorageData):
            next(registry.load_stream(saved)["data_stream"])
        with pytest.raises(IntegrityError):
            registry.save_stream(stream(pieces(DATA[:-1])), digest=digest_of(DATA))
        with pytest.raises(TypeError, match="must yield bytes"):
            registry.save_stream(stream(b"a stream of numbers"))


async def test_a_missing_bucket_is_an_error_of_exists(s3_rig):
    with sync.open(s3_rig.elsewhere()) as storage, pytest.raises(BucketNotFound):
        storage.exists(storage.wrapped.storage_data_of(digest_of(DATA)))


def test_several_threads_call_at_once():
    with sync.open(StorageRegistry([memory()])) as registry:

        def copied(number):
            saved = registry.save_stream(stream(pieces(content(9 * PART, seed=number))))
            again = registry.save_stream(registry.load_stream(saved))
            return again == saved and registry.load(again)["data"] == content(9 * PART, seed=number)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(copied, range(40)))


def test_a_call_sees_the_context_variables_of_its_caller():
    seen, variable = [], ContextVar("variable")

    class Watched(MemoryStorage):
        name = "tests.sync.watched@v1"

        async def find(self, digest, /):
            seen.append(variable.get())

    variable.set("the caller's")
    with sync.open(Watched()) as storage:
        storage.find(digest_of(DATA))
    assert seen == ["the caller's"]


# Streams in.


def test_a_generator_runs_in_the_thread_that_saves_and_is_closed():
    threads = []

    def source():
        try:
            for piece in pieces():
                threads.append(threading.current_thread())
                yield piece
        finally:
            threads.append(threading.current_thread())

    with sync.open(StorageRegistry([memory()])) as registry:
        registry.save_stream(stream(source()))
    assert set(threads) == {threading.current_thread()}


def test_error_of_a_source_is_raised_unchanged_and_nothing_is_left():
    failure = OSError("the tape is torn")

    def source():
        yield from pieces()
        raise failure

    storage = memory()
    with sync.open(StorageRegistry([storage])) as registry:
        with pytest.raises(OSError, match="torn") as caught:
            registry.save_stream(stream(source()))
        assert caught.value is failure
        assert list(registry.list()) == []
    assert storage.contents.objects == storage.contents.uploads == {}


# Many blobs.


def test_many_blobs_come_from_the_calling_thread_and_results_are_ordered():
    threads = []

    def blobs():
        try:
            for number in range(200):
                threads.append(threading.current_thread())
                yield blob(content(100, seed=number))
        finally:
            threads.append(threading.current_thread())

    with sync.open(StorageRegistry([memory()])) as registry:
        saved = list(registry.save_many(blobs(), at_a_time=7))
        assert [(result.index, result.error) for result in saved] == [(index, None) for index in range(200)]
        loaded = registry.load_many((result.record for result in saved), at_a_time=7)
        assert [result.content["data"] for result in loaded] == [content(100, seed=number) for number in range(200)]
    assert set(threads) == {threading.current_thread()}
    assert len(threads) == 201


def test_many_blobs_left_early_are_closed_in_the_calling_thread():
    closed = []

    def blobs():
        try:
            for number in range(200):
                yield blob(content(100, seed=number))
        finally:
            closed.append(threading.current_thread())

    with sync.open(StorageRegistry([memory()])) as registry:
        with closing(registry.save_many(blobs(), at_a_time=7)) as results:
            assert next(results).index == 0
        assert closed == [threading.current_thread()]
        assert len(list(registry.list())) < 200
        assert registry.load(registry.save(blob(DATA)))["data"] == DATA


def test_error_of_many_blobs_comes_after_the_results_before_it():
    failure = OSError("the tape is torn")

    def blobs():
        yield blob(DATA)
        raise failure

    with sync.open(StorageRegistry([memory()])) as registry:
        results = registry.save_many(blobs())
        assert next(results).record
        with pytest.raises(OSError, match="torn") as caught:
            next(results)
        assert caught.value is failure
        with pytest.raises(TypeError, match="not iterable"):
            list(registry.load_many(None))


def test_ctrl_c_in_many_blobs_ends_the_saves():
    def blobs():
        yield blob(DATA)
        signal.raise_signal(signal.SIGINT)
        yield blob(DATA)

    with sync.open(StorageRegistry([memory()])) as registry:
        with pytest.raises(KeyboardInterrupt):
            list(registry.save_many(blobs()))
        assert registry.load(registry.save(blob(DATA)))["data"] == DATA


# Streams out.


def test_a_stream_that_is_left_early_gives_its_connection_back():
    with sync.open(StorageRegistry([memory(max_concurrent_reads=1)])) as registry:
        saved = registry.save(blob(content(5 * 1024**2)))
        for _ in range(3):
            with closing(registry.load_stream(saved)["data_stream"]) as chunks:
                assert next(chunks)
        for chunk in registry.load_stream(saved)["data_stream"]:  # closed by the garbage collector
            assert chunk
            break
        del chunk
        assert len(registry.load(saved)["data"]) == 5 * 1024**2


def test_streams_that_are_open_are_closed_first():
    with sync.open(StorageRegistry([memory()])) as registry:
        chunks = registry.load_stream(registry.save(blob(content(5 * 1024**2))))["data_stream"]
        next(chunks)
    with pytest.raises(ConfigError, match="closed"):
        next(chunks)


# Interruptions.


def interrupt_when(condition):
    """Ctrl-C, from another thread."""

    def wait():
        wait_until(condition)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_ctrl_c_cancels_the_call_and_its_clean_up_runs_to_its_end():
    storage = memory()
    wire = tap(storage)
    wire.hold("upload_part", nth=3)  # for ever
    with sync.open(StorageRegistry([storage])) as registry:
        thread = interrupt_when(lambda: wire.count("upload_part") >= 3)
        with pytest.raises(KeyboardInterrupt):
            registry.save_stream(stream(pieces()))
        thread.join()
        assert storage.contents.objects == storage.contents.uploads == {}
        assert registry.load(registry.save(blob(DATA)))["data"] == DATA


def test_ctrl_c_in_the_source_does_the_same():
    def source():
        yield DATA
        signal.raise_signal(signal.SIGINT)
        yield DATA

    storage = memory()
    with sync.open(StorageRegistry([storage])) as registry:
        with pytest.raises(KeyboardInterrupt):
            registry.save_stream(stream(source()))
        assert storage.contents.objects == storage.contents.uploads == {}
        assert registry.load(registry.save(blob(DATA)))["data"] == DATA


def test_ctrl_c_while_a_stream_is_read_closes_it():
    storage = memory(max_concurrent_reads=1)
    wire = tap(storage)
    with sync.open(StorageRegistry([storage])) as registry:
        saved = registry.save(blob(DATA))
        wire.hold("get", moment="after")
        thread = interrupt_when(lambda: wire.count("get") == 1)
        with pytest.raises(KeyboardInterrupt):
            list(registry.load_stream(saved)["data_stream"])
        thread.join()
        assert registry.load(saved)["data"] == DATA


# Misuse.


def test_call_after_close_raises_a_clear_error():
    with sync.open(memory()) as storage:
        pass
    storage.close()
    with pytest.raises(ConfigError, match="closed"):
        storage.find(digest_of(DATA))


def test_close_in_another_thread_ends_a_running_call_with_a_clear_error():
    target = memory()
    wire = tap(target)
    wire.hold("head")
    with ThreadPoolExecutor(1) as pool, sync.open(target) as storage:
        waiting = pool.submit(storage.find, digest_of(DATA))
        wait_until(lambda: wire.count("head"))
        storage.close()
        with pytest.raises(ConfigError, match="another thread"):
            waiting.result()


def test_blocking_call_inside_its_loop_is_refused():
    def get_digest(**_):
        storage.find(digest_of(DATA))

    with sync.open(memory()) as storage, pytest.raises(ConfigError, match="would never end"):
        storage.write_data_stream(pieces(), get_digest, {})


def test_after_a_fork_the_child_gets_an_error_and_the_parent_goes_on():
    printed = run_python(
        """
        import os
        from lakery_cloud import ConfigError, MemoryStorage, StorageRegistry, sync

        registry = sync.open(StorageRegistry([MemoryStorage()]))
        blob = {"data": b"content", "content_type": "x/y", "content_encoding": None}
        record = registry.save(blob)
        child = os.fork()
        if child == 0:
            try:
                registry.load(record)
            except ConfigError as error:
                print(error, flush=True)
            with sync.open(registry.wrapped) as again:
                print(again.load(record)["data"], flush=True)
            raise SystemExit
        os.waitpid(child, 0)
        print(registry.load(record)["data"])
    """,
        options=WITHOUT_WARNINGS_OF_FORKS,
    )
    assert printed.splitlines() == [
        "the storage or registry was opened before a fork; open it again in this process",
        "b'content'",
        "b'content'",
    ]


def test_a_program_that_closes_nothing_ends():
    printed = run_python(
        """
        from lakery_cloud import MemoryStorage, StorageRegistry, sync

        registry = sync.open(StorageRegistry([MemoryStorage()]))
        blob = {"data": bytes(2**20), "content_type": "x/y", "content_encoding": None}
        chunks = registry.load_stream(registry.save(blob))["data_stream"]
        print(len(next(chunks)) > 0)
    """,
        options=WITHOUT_WARNINGS_OF_FORKS,
    )
    assert printed == "True\n"


def test_garbage_collection_ends_the_thread():
    thread = sync.open(memory())._loop._thread
    assert not thread.is_alive()
