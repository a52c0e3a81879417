"""Spans, metrics and log lines, and that none of them has a secret."""

import dataclasses
import inspect
import logging
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
from lakery_cloud.engine.telemetry import transport as observed_transport
from lakery_cloud.engine.transport import Transport
from lakery_cloud.testing import Rule, content, digest_of
from lakery_cloud.testing.faults import Answer, CutAnswer
from tests.helpers import blob_stream, look_after_parts, proxy_before, run_python, write, write_stream

PART = 1024
DATA = content(3 * PART)
LARGE = content(5 * 1024**2)
Other = MemoryStorage.named("tests.telemetry.other@v1")


# Spans.


async def test_write_is_a_span_with_its_request_as_a_child(exported):
    await write(MemoryStorage("shop"), DATA)
    operation, request = exported.span("write"), exported.span("request.put")
    assert request.parent.span_id == operation.context.span_id
    assert operation.attributes["lakery_cloud.storage"] == "lakery_cloud.memory@v1"
    assert operation.attributes["lakery_cloud.sent"] == request.attributes["lakery_cloud.sent"] == len(DATA)
    assert operation.attributes["lakery_cloud.requests"] == 1
    assert operation.attributes["lakery_cloud.deduplicated"] == 0
    assert operation.status.status_code is StatusCode.UNSET


async def test_bucket_of_s3_is_named_as_the_semantic_conventions_say(exported, s3_rig):
    async with s3_rig.storage() as storage:
        await write(storage, DATA)
    for span in exported.spans:
        assert span.attributes["aws.s3.bucket"] == span.attributes["lakery_cloud.bucket"] == s3_rig.bucket


async def test_long_stream_has_a_span_for_each_request(exported):
    storage = MemoryStorage(part_size=PART, max_concurrent_parts=1)
    await write_stream(storage, DATA)
    assert exported.span("write_stream").attributes["lakery_cloud.sent"] == len(DATA)
    assert look_after_parts(exported.requests(), "head", {"upload_part"}) == [
        *("begin_upload", "upload_part", "upload_part", "upload_part", "head", "complete_upload", "head", "copy"),
        "delete",
    ]


@pytest.mark.parametrize("save", [write, write_stream])
async def test_existing_content_is_deduplicated(exported, save):
    storage = MemoryStorage(part_size=PART)
    await save(storage, DATA)
    await save(storage, DATA)
    name = "write" if save is write else "write_stream"
    assert [span.attributes["lakery_cloud.deduplicated"] for span in exported.spans_named(name)] == [0, len(DATA)]
    assert exported.metrics()["lakery_cloud.deduplicated"][0][1] == len(DATA)


async def test_existing_content_with_a_known_digest_is_deduplicated_by_find(exported):
    registry = StorageRegistry([MemoryStorage()])
    for _ in range(2):
        await registry.save_stream(blob_stream([DATA]), digest=digest_of(DATA))
    assert [span.attributes["lakery_cloud.deduplicated"] for span in exported.spans_named("find")] == [0, len(DATA)]


@pytest.mark.parametrize("limit", [PART, 2 * PART])
async def test_method_that_calls_another_one_is_one_operation(exported, limit):
    storage = MemoryStorage(part_size=PART)
    limits = dataclasses.replace(storage.settings.limits, max_put_size=limit)
    storage = MemoryStorage(part_size=PART, limits=limits)
    storage_data = await write(storage, DATA)
    await storage.read_data(storage_data)
    operations = [span for span in exported.spans if span.parent is None]
    assert [span.name for span in operations] == ["lakery_cloud.write", "lakery_cloud.read"]


async def test_copy_is_a_write_and_a_read_that_count_their_own_bytes(exported):
    source, target = MemoryStorage(), Other()
    storage_data = await write(source, LARGE)
    for storage in (source, target):  # also out of a storage into itself, as another kind of content
        chunks = {"data_stream": source.read_data_stream(storage_data), "content_type": "x/y", "content_encoding": None}
        await StorageRegistry([storage]).save_stream(chunks)
    for written, read in zip(exported.spans_named("write_stream"), exported.spans_named("read_stream"), strict=True):
        assert written.attributes["lakery_cloud.received"] == read.attributes["lakery_cloud.sent"] == 0
        assert read.attributes["lakery_cloud.received"] == len(LARGE)
        assert written.attributes["lakery_cloud.deduplicated"] + written.attributes["lakery_cloud.sent"] >= len(LARGE)


async def test_reading_a_stream_does_not_change_the_current_span(exported):
    storage = MemoryStorage()
    storage_data = await write(storage, LARGE)
    with exported.tracer.start_as_current_span("consumer") as consumer:
        async with aclosing(storage.read_data_stream(storage_data)) as chunks:
            async for _ in chunks:
                assert get_current_span() is consumer
                break
    read = exported.span("read_stream")
    assert read.parent.span_id == consumer.get_span_context().span_id
    assert 0 < read.attributes["lakery_cloud.received"] < len(LARGE)
    assert read.status.status_code is StatusCode.UNSET


def test_blocking_call_is_a_child_of_its_caller_span(exported):
    with sync.open(MemoryStorage()) as storage, exported.tracer.start_as_current_span("caller") as caller:
        storage_data = storage.write_data(DATA, digest_of(DATA), {})
        assert b"".join(storage.read_data_stream(storage_data)) == DATA
    for name in ("write", "read_stream"):
        assert exported.span(name).parent.span_id == caller.get_span_context().span_id


async def test_span_names_only_the_kind_of_an_error(exported):
    storage = MemoryStorage()
    storage_data = storage.storage_data_of(digest_of(DATA))
    with pytest.raises(NoStorageData):
        await storage.read_data(storage_data)
    span = exported.span("read")
    assert span.attributes["error.type"] == "NoStorageData"
    assert (span.status.status_code, span.status.description, span.events) == (StatusCode.ERROR, None, ())
    requests = exported.spans_named("request.get")
    assert [request.attributes["lakery_cloud.answer"] for request in requests] == ["KeyMissing"] * 2, (
        "and in quarantine"
    )
    assert all(request.status.status_code is StatusCode.UNSET for request in requests)


# Metrics.


async def test_metrics_count_requests_bytes_and_durations(exported):
    storage = MemoryStorage()
    storage_data = await write(storage, DATA)
    await storage.read_data(storage_data)
    with pytest.raises(IntegrityError):
        await storage.write_data(DATA, digest_of(b""), {})
    metrics = exported.metrics()
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


async def test_metrics_name_the_bucket_of_the_storage_not_of_the_record(exported, s3_rig):
    async with s3_rig.storage() as storage:
        with pytest.raises(BucketNotFound):
            await storage.read_data({"bucket": "out-of-a-record", "key": "k"})
    assert exported.span("read").attributes["lakery_cloud.bucket"] == "out-of-a-record"
    buckets = {named["lakery_cloud.bucket"] for points in exported.metrics().values() for named, _ in points}
    assert buckets == {s3_rig.bucket}


async def test_further_attempts_are_counted(exported, cloud_rig, monkeypatch):
    if cloud_rig.is_live:
        pytest.skip("no proxy stands before a real account")
    async with proxy_before(cloud_rig, Rule(Answer(503), "put")), cloud_rig.storage(max_attempts=2) as storage:
        await write(storage, DATA)
    assert exported.span("write").attributes["lakery_cloud.resent"] == 1
    assert exported.span("request.put").attributes["http.request.resend_count"] == 1
    assert [value for _, value in exported.metrics()["lakery_cloud.resent"]] == [1]


async def test_interrupted_response_is_counted(exported, s3_rig):
    async with s3_rig.storage() as storage:
        storage_data = await write(storage, LARGE)
    async with proxy_before(s3_rig, Rule(CutAnswer(1000), "get")), s3_rig.storage() as storage:
        assert await storage.read_data(storage_data) == LARGE
    assert exported.span("read").attributes["lakery_cloud.interruptions"] == 1
    assert exported.span("read").attributes["lakery_cloud.requests"] == 2


# Secrets.


async def test_content_hashes_tags_and_messages_of_a_store_are_not_exported(exported, cloud_rig, caplog):
    if cloud_rig.is_live:
        pytest.skip("no proxy stands before a real account")
    secret, tag = "S3cretInAnAnswer", "the-patient-is-ill"
    data = b"content that is nobody's business"
    refusal = Answer(403, message=f"{secret}: {tag}", body=None)
    with caplog.at_level(logging.DEBUG, "lakery_cloud"):
        async with proxy_before(cloud_rig, Rule(refusal, "get")), cloud_rig.storage(prefix="prefix") as storage:
            storage_data = await storage.write_data(data, digest_of(data), {"diagnosis": tag})
            with pytest.raises(AccessDenied) as caught:
                await storage.read_data(storage_data)
            assert secret in str(caught.value)  # so there was something to hide
            assert await storage.read_data(storage_data) == data
            await storage.stat(storage_data)
    text = exported.text() + "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("lakery_cloud")
    )
    for hidden in (secret, tag, "diagnosis", data.decode(), digest_of(data)["content_hash"]):
        assert hidden not in text


def test_every_request_of_a_transport_has_a_span():
    awaited = {name for name, member in inspect.getmembers(Transport) if inspect.iscoroutinefunction(member)}
    assert awaited == observed_transport.REQUESTS
    others = {name for name in vars(Transport) if not name.startswith("_")} - awaited
    wrapped = {name for name in vars(observed_transport._ObservedTransport) if not name.startswith("_")}
    assert others - wrapped == {
        *("conditional_writes", "uploads_to_content", "copies_of_part", "lists_by_prefix", "max_deletes"),
        "copies_need_description",
        *("missing_bucket", "store"),
        *("checks_hash", "credential_kind"),
    }


# With and without a provider.


SAVE = """
import asyncio, sys
from lakery_cloud import MemoryStorage, StorageRegistry

blob = {"data": b"content", "content_type": "x/y", "content_encoding": None}
asyncio.run(StorageRegistry([MemoryStorage()]).save(blob))
"""


def test_program_without_opentelemetry_never_imports_it():
    assert run_python(f"{SAVE}\nprint('opentelemetry' in sys.modules)") == "False\n"


def test_program_without_a_provider_has_no_telemetry():
    assert (
        run_python(
            f"import opentelemetry.trace\n{SAVE}\nfrom lakery_cloud.engine.telemetry import opentelemetry\nprint(opentelemetry.sink())"
        )
        == "None\n"
    )


def test_program_with_a_provider_has_telemetry():
    setting = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
provider = TracerProvider()
exporter = ConsoleSpanExporter(formatter=lambda span: span.name + chr(10))
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
"""
    assert run_python(setting + SAVE) == "lakery_cloud.request.put\nlakery_cloud.write\n"


# Log.


async def test_operations_are_logged_at_debug_level(caplog):
    storage = MemoryStorage("shop")
    await write(storage, DATA)
    assert not caplog.records
    with caplog.at_level(logging.DEBUG, "lakery_cloud.operations"):
        await write(storage, DATA)
    (record,) = caplog.records
    assert record.name == "lakery_cloud.operations"
    expected = f"write of lakery_cloud.memory@v1 in {storage.keys.bucket!r}: 0 bytes sent, 0 received, {len(DATA)} deduplicated, 1 requests"
    assert record.getMessage().startswith(expected)
