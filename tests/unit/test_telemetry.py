"""What OpenTelemetry and the log are told: how much, how long and how often, and nothing that is anybody's secret."""

import dataclasses
import inspect
import logging
import subprocess
import sys
from contextlib import aclosing

import pytest
from opentelemetry.trace import StatusCode, get_current_span

from lakery_cloud import (
    AccessDenied,
    BucketNotFound,
    IntegrityError,
    MemoryStorage,
    NoStorageData,
    StorageRegistry,
    sync,
)
from lakery_cloud.engine import requests
from lakery_cloud.engine.model import BodyInterrupted
from lakery_cloud.engine.telemetry import transport as observed_transport
from lakery_cloud.engine.transport import Transport
from lakery_cloud.testing import (
    FaultProxy,
    Rule,
    content,
    digest_of,
    stream_of,
    tap,
)
from lakery_cloud.testing.faults import Answer, CutAnswer

PART = 1024
DATA = content(3 * PART)
LARGE = content(5 * 1024**2)
Other = MemoryStorage.named("tests.telemetry.other@v1")


async def write(storage, data=DATA):
    return await storage.write_data(data, digest_of(data), {})


async def write_stream(storage, data=DATA):
    stream = stream_of([data])
    return await storage.write_data_stream(stream, stream.get_digest, {})


# Spans.


async def test_a_write_is_a_span_with_its_request_as_a_child(told):
    await write(MemoryStorage("shop"))
    operation, request = told.the("write"), told.the("request.put")
    assert request.parent.span_id == operation.context.span_id
    assert operation.attributes["lakery_cloud.storage"] == "lakery_cloud.memory@v1"
    assert operation.attributes["lakery_cloud.sent"] == request.attributes["lakery_cloud.sent"] == len(DATA)
    assert operation.attributes["lakery_cloud.requests"] == 1
    assert operation.attributes["lakery_cloud.deduplicated"] == 0
    assert operation.status.status_code is StatusCode.UNSET


async def test_the_bucket_has_the_name_of_the_conventions_where_they_know_the_store(told, s3_rig):
    async with s3_rig.storage() as storage:
        await write(storage)
    for span in told.spans:
        assert span.attributes["aws.s3.bucket"] == span.attributes["lakery_cloud.bucket"] == s3_rig.bucket


async def test_a_long_stream_tells_of_each_of_its_requests(told):
    storage = MemoryStorage(part_size=PART, max_concurrent_parts=1)
    await write_stream(storage)
    assert told.the("write_stream").attributes["lakery_cloud.sent"] == len(DATA)
    assert told.requests() == [
        *("begin_upload", "upload_part", "upload_part", "upload_part", "head", "complete_upload", "head", "copy"),
        "delete",
    ]


@pytest.mark.parametrize("save", [write, write_stream])
async def test_content_that_is_there_already_is_deduplicated(told, save):
    storage = MemoryStorage(part_size=PART)
    await save(storage)
    await save(storage)
    name = "write" if save is write else "write_stream"
    assert [span.attributes["lakery_cloud.deduplicated"] for span in told.named(name)] == [0, len(DATA)]
    assert told.metrics()["lakery_cloud.deduplicated"][0][1] == len(DATA)


async def test_content_whose_digest_is_known_is_deduplicated_by_find(told):
    registry = StorageRegistry([MemoryStorage()])
    for _ in range(2):
        stream = {"data_stream": stream_of([DATA]), "content_type": "x/y", "content_encoding": None}
        await registry.save_stream(stream, digest=digest_of(DATA))
    assert [span.attributes["lakery_cloud.deduplicated"] for span in told.named("find")] == [0, len(DATA)]


@pytest.mark.parametrize("limit", [PART, 2 * PART])
async def test_a_method_that_begins_with_another_one_is_one_operation(told, limit):
    storage = MemoryStorage(part_size=PART)
    limits = dataclasses.replace(storage.settings.limits, max_put_size=limit)
    storage = MemoryStorage(part_size=PART, limits=limits)
    storage_data = await write(storage)
    await storage.read_data(storage_data)
    operations = [span for span in told.spans if span.parent is None]
    assert [span.name for span in operations] == ["lakery_cloud.write", "lakery_cloud.read"]


async def test_a_copy_is_a_write_and_a_read_with_bytes_of_their_own(told):
    source, target = MemoryStorage(), Other()
    storage_data = await write(source, LARGE)
    for storage in (source, target):  # also out of a storage into itself, as another kind of content
        chunks = {"data_stream": source.read_data_stream(storage_data), "content_type": "x/y", "content_encoding": None}
        await StorageRegistry([storage]).save_stream(chunks)
    for written, read in zip(told.named("write_stream"), told.named("read_stream"), strict=True):
        assert written.attributes["lakery_cloud.received"] == read.attributes["lakery_cloud.sent"] == 0
        assert read.attributes["lakery_cloud.received"] == len(LARGE)
        assert written.attributes["lakery_cloud.deduplicated"] + written.attributes["lakery_cloud.sent"] >= len(LARGE)


async def test_a_stream_that_is_read_leaves_its_consumer_the_current_span(told):
    storage = MemoryStorage()
    storage_data = await write(storage, LARGE)
    with told.tracer.start_as_current_span("consumer") as consumer:
        async with aclosing(storage.read_data_stream(storage_data)) as chunks:
            async for _ in chunks:
                assert get_current_span() is consumer
                break
    read = told.the("read_stream")
    assert read.parent.span_id == consumer.get_span_context().span_id
    assert 0 < read.attributes["lakery_cloud.received"] < len(LARGE)
    assert read.status.status_code is StatusCode.UNSET


def test_a_blocking_call_belongs_to_the_span_of_its_caller(told):
    with sync.open(MemoryStorage()) as storage, told.tracer.start_as_current_span("caller") as caller:
        storage_data = storage.write_data(DATA, digest_of(DATA), {})
        assert b"".join(storage.read_data_stream(storage_data)) == DATA
    for name in ("write", "read_stream"):
        assert told.the(name).parent.span_id == caller.get_span_context().span_id


async def test_an_error_is_told_by_its_kind_alone(told):
    storage = MemoryStorage()
    storage_data = storage.storage_data_of(digest_of(DATA))
    with pytest.raises(NoStorageData):
        await storage.read_data(storage_data)
    span = told.the("read")
    assert span.attributes["error.type"] == "NoStorageData"
    assert (span.status.status_code, span.status.description, span.events) == (StatusCode.ERROR, None, ())
    request = told.the("request.get")
    assert request.attributes["lakery_cloud.answer"] == "KeyMissing"
    assert request.status.status_code is StatusCode.UNSET


# Metrics.


async def test_metrics_tell_how_often_how_much_and_how_long(told):
    storage = MemoryStorage()
    storage_data = await write(storage)
    await storage.read_data(storage_data)
    with pytest.raises(IntegrityError):
        await storage.write_data(DATA, digest_of(b""), {})
    metrics = told.metrics()
    named = {"lakery_cloud.storage": storage.name, "lakery_cloud.bucket": storage.keys.bucket}
    write_, read = ({**named, "lakery_cloud.operation": name} for name in ("write", "read"))
    assert metrics["lakery_cloud.io"] == [
        ({**write_, "network.io.direction": "transmit"}, len(DATA)),
        ({**read, "network.io.direction": "receive"}, len(DATA)),
    ]
    assert metrics["lakery_cloud.requests"] == [(write_, 1), (read, 1)]
    assert metrics["lakery_cloud.operation.duration"] == [
        *((write_, 1), (read, 1), ({**write_, "error.type": "IntegrityError"}, 1))
    ]


async def test_metrics_name_the_storage_s_own_bucket_whatever_records_say(told, s3_rig):
    async with s3_rig.storage() as storage:
        with pytest.raises(BucketNotFound):
            await storage.read_data({"bucket": "out-of-a-record", "key": "k"})
    assert told.the("read").attributes["lakery_cloud.bucket"] == "out-of-a-record"
    buckets = {named["lakery_cloud.bucket"] for points in told.metrics().values() for named, _ in points}
    assert buckets == {s3_rig.bucket}


async def test_attempts_that_only_the_sdk_sees_are_counted(told, cloud_rig, monkeypatch):
    if cloud_rig.is_live:
        pytest.skip("no proxy stands before a real account")
    monkeypatch.setattr(requests, "FIRST_PAUSE", 0.01)
    async with FaultProxy(cloud_rig.server_url, [Rule(Answer(503), "put")]) as proxy:
        cloud_rig.point_to(proxy.url)
        async with cloud_rig.storage(max_attempts=2) as storage:
            await write(storage)
    assert told.the("write").attributes["lakery_cloud.resent"] == 1
    assert told.the("request.put").attributes["http.request.resend_count"] == 1
    assert [value for _, value in told.metrics()["lakery_cloud.resent"]] == [1]


async def test_answers_that_break_off_are_counted(told):
    storage = MemoryStorage()
    wire = tap(storage)

    async def break_off():
        raise BodyInterrupted

    wire.after("get", break_off)
    assert await storage.read_data(await write(storage)) == DATA
    assert told.the("read").attributes["lakery_cloud.interruptions"] == 1
    assert told.the("read").attributes["lakery_cloud.requests"] == 2


async def test_an_answer_that_is_cut_on_the_wire_is_counted(told, s3_rig):
    async with s3_rig.storage() as storage:
        storage_data = await write(storage, LARGE)
    async with FaultProxy(s3_rig.server_url, [Rule(CutAnswer(1000), "get")]) as proxy:
        s3_rig.point_to(proxy.url)
        async with s3_rig.storage() as storage:
            assert await storage.read_data(storage_data) == LARGE
    assert told.the("read").attributes["lakery_cloud.interruptions"] == 1


# What is never told.


async def test_neither_content_nor_hashes_nor_tags_nor_what_a_store_says_is_told(told, cloud_rig, caplog):
    if cloud_rig.is_live:
        pytest.skip("no proxy stands before a real account")
    secret, tag = "S3cretInAnAnswer", "the-patient-is-ill"
    data = b"content that is nobody's business"
    refusal = Answer(403, message=f"{secret}: {tag}", body=None)
    with caplog.at_level(logging.DEBUG, "lakery_cloud"):
        async with FaultProxy(cloud_rig.server_url, [Rule(refusal, "get")]) as proxy:
            cloud_rig.point_to(proxy.url)
            async with cloud_rig.storage(prefix="prefix") as storage:
                storage_data = await storage.write_data(data, digest_of(data), {"diagnosis": tag})
                with pytest.raises(AccessDenied) as caught:
                    await storage.read_data(storage_data)
                assert secret in str(caught.value)  # it was there to be told
                assert await storage.read_data(storage_data) == data
                await storage.stat(storage_data)
    text = told.everything() + "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("lakery_cloud")
    )
    for hidden in (secret, tag, "diagnosis", data.decode(), digest_of(data)["content_hash"]):
        assert hidden not in text


def test_every_request_of_a_transport_is_told_of():
    awaited = {name for name, member in inspect.getmembers(Transport) if inspect.iscoroutinefunction(member)}
    assert awaited == observed_transport.REQUESTS
    others = {name for name in vars(Transport) if not name.startswith("_")} - awaited
    told_apart = {name for name in vars(observed_transport._ObservedTransport) if not name.startswith("_")}
    assert others - told_apart == {"conditional_writes", "max_deletes", "checks_hash", "credential_kind"}


# Off and on.


def run(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


SAVE = """
import asyncio, sys
from lakery_cloud import MemoryStorage, StorageRegistry

blob = {"data": b"content", "content_type": "x/y", "content_encoding": None}
asyncio.run(StorageRegistry([MemoryStorage()]).save(blob))
"""


def test_a_program_without_opentelemetry_never_imports_it():
    assert run(f"{SAVE}\nprint('opentelemetry' in sys.modules)") == ["False"]


def test_a_program_that_has_set_no_provider_tells_nothing():
    assert run(
        f"import opentelemetry.trace\n{SAVE}\nfrom lakery_cloud.engine.telemetry import opentelemetry\nprint(opentelemetry.sink())"
    ) == ["None"]


def test_a_program_that_has_set_a_provider_is_told():
    setting = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
provider = TracerProvider()
exporter = ConsoleSpanExporter(formatter=lambda span: span.name + chr(10))
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
"""
    assert run(setting + SAVE) == ["lakery_cloud.request.put", "lakery_cloud.write"]


# The log.


async def test_the_log_tells_of_operations_if_it_is_wanted(caplog):
    storage = MemoryStorage("shop")
    await write(storage)
    assert not caplog.records
    with caplog.at_level(logging.DEBUG, "lakery_cloud.operations"):
        await write(storage)
    (record,) = caplog.records
    assert record.name == "lakery_cloud.operations"
    expected = f"write of lakery_cloud.memory@v1 in {storage.keys.bucket!r}: 0 bytes sent, 0 received, {len(DATA)} deduplicated, 1 requests"
    assert record.getMessage().startswith(expected)
