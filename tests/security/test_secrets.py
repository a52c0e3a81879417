"""No secret is ever shown: in a repr, an error, its causes, a log line, a pickle or the command's output."""

import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

import lakery_cloud
from lakery_cloud import (
    AzureBlobStorage,
    ConfigError,
    FileStorage,
    GCSStorage,
    LakeryCloudError,
    MemoryStorage,
    S3Storage,
    storage_from_url,
)
from lakery_cloud.config.urls import STORAGE_CLASSES
from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import Upload
from lakery_cloud.redaction import redact, redact_error
from lakery_cloud.testing.faults import (
    Answer,
    ExpiredCredentials,
    Fault,
    FaultProxy,
    ResetAfter,
    Rule,
)
from tests.attack.cases import cases, counted
from tests.helpers import closed_port
from tests.security.credentials import GIVERS, Marker, check_storage, everything
from tests.security.echoes import (
    Logs,
    answering,
    echo,
    echo_of_headers,
    echo_of_parts,
    echoes,
    in_json,
    in_xml,
    operations,
    redirect_with_echo,
)
from tests.telemetry import Exported

# Every setting is in one of these tables. Add new ones.
SECRET: Mapping[type, set[str]] = {
    MemoryStorage: set(),
    FileStorage: set(),
    S3Storage: {"session", "client"},
    GCSStorage: {"fs", "token"},
    AzureBlobStorage: {"fs", "account_key", "connection_string", "sas_token", "credential"},
}
ENGINE = {
    *("part_size", "max_concurrent_parts", "max_concurrent_requests", "max_concurrent_reads", "max_buffered_bytes"),
    *("concurrent_ranges", "range_size", "verify", "cleanup_timeout", "allowed_buckets", "limits"),
}
CLOUD = {*ENGINE, "max_attempts", "connect_timeout", "read_timeout", "min_rate", "fast_lane", "endpoint_url"}
"""`endpoint_url` is public, since one with a secret is refused."""
COPIES = {"copy_threshold", "copy_part_size", "copy_timeout"}
PUBLIC: Mapping[type, set[str]] = {
    MemoryStorage: {*ENGINE, "bucket", "prefix"},
    FileStorage: {*ENGINE, "root", "prefix", "create"},
    S3Storage: {
        *(*CLOUD, "bucket", "prefix", "region", "profile", "addressing_style", "sse", "kms_key_id", "storage_class"),
        *("requester_pays", "conditional_writes", "temporary_bucket", "equal_parts", *COPIES),
    },
    GCSStorage: {
        *(*CLOUD, "bucket", "prefix", "project", "user_project", "kms_key_name", "storage_class", "composite_uploads"),
        "temporary_bucket",
    },
    AzureBlobStorage: {
        *(*CLOUD, "container", "prefix", "account_name", "access_tier", "blob_tags", "temporary_container", *COPIES)
    },
}


def test_every_setting_is_classified() -> None:
    classes = [getattr(lakery_cloud, name) for _, name in STORAGE_CLASSES.values()]
    assert set(classes) == set(SECRET) == set(PUBLIC)
    for storage_class in classes:
        found = {*inspect.signature(storage_class).parameters}
        assert found == SECRET[storage_class] | PUBLIC[storage_class], storage_class
        assert not SECRET[storage_class] & PUBLIC[storage_class]


def test_no_secret_is_a_setting_of_a_url() -> None:
    for storage_class, secret in SECRET.items():
        assert {*storage_class.settings_class.url_readers()} <= PUBLIC[storage_class]
        for name in secret:
            with pytest.raises(ConfigError, match="unknown setting"):
                storage_from_url(f"{storage_class.url_scheme}://bucket?{name}=x")


def test_every_secret_setting_is_given_in_a_test() -> None:
    for storage_class, secret in SECRET.items():
        assert secret <= {setting for kind, setting, _ in GIVERS if kind is storage_class}, storage_class


# Failures.


@asynccontextmanager
async def faulty(fault: Fault) -> AsyncIterator[str]:
    async with FaultProxy("http://127.0.0.1:9", [Rule(fault, times=None, probability=0.999999)]) as proxy:
        yield proxy.url


@asynccontextmanager
async def nothing() -> AsyncIterator[str]:
    with closed_port() as url:
        yield url


TROUBLES: Mapping[str, Callable[[], Any]] = {
    "closed port": nothing,
    "400": lambda: faulty(Answer(400)),
    "401": lambda: faulty(Answer(401)),
    "403": lambda: faulty(Answer(403)),
    "404": lambda: faulty(Answer(404)),
    "500": lambda: faulty(Answer(500)),
    "expired": lambda: faulty(ExpiredCredentials()),
    "reset": lambda: faulty(ResetAfter()),
    "echo": lambda: answering(echo),
    "no HTTP": lambda: answering(lambda _: b"garbage\r\n\r\n"),
    "broken header": lambda: answering(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
    "broken body": lambda: answering(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<a"),
    "redirect": lambda: answering(redirect_with_echo),
    "echo of parts": lambda: answering(echo_of_parts),
    **{
        f"echo of headers in {status}": partial(answering, echo_of_headers(status, write, kind))
        for status, write, kind in ((403, in_xml, "application/xml"), (500, in_json, "application/json"))
    },
}


@contextmanager
def logged() -> Iterator[Logs]:
    handler, logger = Logs(), logging.getLogger("lakery_cloud")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@pytest.fixture
def logs() -> Iterator[Logs]:
    with logged() as handler:
        yield handler


def givers_and_troubles() -> Iterator[Any]:
    """Each way to give a secret with each failure."""
    for giver in GIVERS:
        for trouble in TROUBLES:
            label = "-".join(filter(None, (giver[0].__name__, giver[1], giver[2], trouble))).replace(" ", "_")
            yield pytest.param(giver, trouble, id=label)


@pytest.mark.parametrize(("giver", "trouble"), [*givers_and_troubles()])
async def test_secret_is_never_shown(
    giver: tuple[type, str, str], trouble: str, logs: Logs, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage_class, setting, _ = giver
    marker = Marker()
    tried, failed = set(), set()
    upkeep = trouble in ("closed port", "echo of headers in 403")
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(TROUBLES[trouble]())
        given = await GIVERS[giver](marker, url, stack)
        for name, value in given.environment.items():
            monkeypatch.setenv(name, value)
        options = {} if setting in ("client", "fs") else {"connect_timeout": 2.0, "read_timeout": 2.0}
        part_size = 5 * 1024**2 if storage_class is S3Storage else 256 * 1024
        storage = storage_class("bucket", **given.settings, max_attempts=1, part_size=part_size, **options)
        check_storage(storage, marker, pickles=given.pickles)
        async with storage:
            async for name, operation in operations(storage, upkeep=upkeep):
                tried.add(name)
                errors: list[BaseException] = []
                try:
                    result = await operation
                except (LakeryCloudError, StopAsyncIteration) as error:
                    errors.append(error)
                else:
                    results = result if isinstance(result, list) else []
                    errors += filter(None, (getattr(each, "error", None) for each in results))
                    if name != "presign":  # whose result is a signature
                        marker.check(repr(result), name)
                failed |= {name} if errors else set()
                for error in errors:
                    for text in everything(error):
                        marker.check(text, name)
            check_storage(storage, marker, pickles=given.pickles)
    assert failed
    if trouble == "closed port":  # so that each operation that sends a request fails
        assert tried - failed <= {"presign"}
    for line in logs.lines:
        marker.check(line, "the log")
    assert exported.spans
    marker.check(exported.text(), "telemetry")


@cases(8, suppress_health_check=list(HealthCheck))
@given(giver=st.sampled_from(sorted(GIVERS, key=str)), answer=echoes())
async def test_secret_is_not_shown_however_a_store_repeats_it(
    giver: tuple[type, str, str], answer: Callable[[bytes], bytes], exported: Exported, short_pauses: None
) -> None:
    marker = Marker()
    async with AsyncExitStack() as stack:
        log = stack.enter_context(logged())
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        given = await GIVERS[giver](marker, await stack.enter_async_context(answering(answer)), stack)
        for name, value in given.environment.items():
            patch.setenv(name, value)
        part_size = 5 * 1024**2 if giver[0] is S3Storage else 256 * 1024
        storage = giver[0]("bucket", **given.settings, max_attempts=1, part_size=part_size)
        await stack.enter_async_context(storage)
        async for name, operation in operations(storage):
            try:
                await operation
            except (LakeryCloudError, StopAsyncIteration) as error:
                for text in everything(error):
                    marker.check(text, name)
            counted["operations on stores that repeat secrets"] += 1
    for line in log.lines:
        marker.check(line, "the log")
    marker.check(exported.text(), "telemetry")


@pytest.mark.parametrize(
    ("giver", "kinds"),
    [
        ((S3Storage, "environment", ""), {"put", "get", "head", "delete", "list", "begin_upload", "upload_part"}),
        ((GCSStorage, "token", "credentials"), {"put", "get", "head", "delete", "list", "begin_upload", "upload_part"}),
        ((AzureBlobStorage, "account_key", ""), {"put", "get", "head", "delete", "list", "upload_part"}),
    ],
    ids=["s3", "gcs", "azure"],
)
async def test_each_kind_of_request_is_tried(
    giver: tuple[type, str, str], kinds: set[str], exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(answering(echo_of_parts))
        given = await GIVERS[giver](Marker(), url, stack)
        for name, value in given.environment.items():
            monkeypatch.setenv(name, value)
        storage = await stack.enter_async_context(giver[0]("bucket", **given.settings, max_attempts=1))
        async for _, operation in operations(storage):
            with suppress(LakeryCloudError):
                await operation
    assert kinds <= set(exported.requests())


async def test_token_that_can_not_be_loaded_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    marker = Marker()
    for token in (
        {"refresh_token": marker.plain},
        [marker.plain],
        {"type": "service_account", "private_key": marker.key},
    ):
        async with GCSStorage("bucket", token=token) as storage:
            check_storage(storage, marker, pickles=False)
            with pytest.raises(LakeryCloudError) as raised:
                await storage.read_data({"bucket": "bucket", "blob": "a"})
            for text in everything(raised.value):
                marker.check(text, "the error")


secrets = st.text("abcXYZ019-_.~", min_size=8, max_size=40).map(lambda text: f"s3cr3t{text}")


@given(secret=secrets)
def test_texts_of_libraries_lose_their_credentials(secret: str) -> None:
    for text in (
        f"url='https://me.blob.core.windows.net/c/b?sv=1&sig={secret}&sp=r'",
        f"https://storage.googleapis.com/upload/storage/v1/b/b/o?uploadType=resumable&upload_id={secret}",
        f"https://bucket.s3.amazonaws.com/a?X-Amz-Signature={secret}&X-Amz-Security-Token={secret}",
        f"AccountName=me;AccountKey={secret}==;EndpointSuffix=core.windows.net",
        f"BlobEndpoint=https://h/;SharedAccessSignature=sv=1&sig={secret}",
        f'Could not connect to the endpoint URL: "http://me:{secret}@host/bucket"',
        f"/tokeninfo?access_token={secret} (Caused by ...)",
    ):
        assert secret not in redact(text)
        inner = OSError(5, text)
        outer = ValueError(text, inner)
        outer.message = text
        outer.__cause__ = RuntimeError(text)
        outer.__cause__.__context__ = KeyError(text)
        assert secret not in redact_error(outer)
        for shown in everything(outer):
            assert secret not in shown


def test_text_without_credentials_is_kept() -> None:
    text = "Could not connect to http://127.0.0.1:9/bucket/key?list-type=2&prefix=a: [Errno 111] me@example.com"
    assert redact(text) == text


ENDPOINTS = (
    *("https://me:{}@host", "https://{}@host", "https://me%3A{}%40host", "https://me:{}%40host", "https://host?sig={}"),
    *(
        "https://host/#{}",
        "https://[{}",
        "https://me:{}\u2100@host",
        "me:{}",
        "AccountName=me;AccountKey={}",
        "https://h:{}",
    ),
)
URLS = (
    *("s3://me:{}@bucket", "s3://{}@bucket", "s3://me%3A{}%40bucket/a", "s3://me:{}/@bucket", "gs://me:{}#@bucket"),
    *(
        "az://me:{}?@container",
        "file://me:{}@host/folder",
        "memory://me:{}@memory",
        "s3://[{}",
        "s3://me:{}\u2100@bucket",
    ),
    *(
        "s3://bucket?aws_secret_access_key={}",
        "az://container?sas_token={}",
        "az://container?sv=1&sig={}",
        "gs://b?token={}",
    ),
    *(f"s3://bucket?endpoint_url={quote(endpoint, safe='{}')}" for endpoint in ENDPOINTS),
)


@pytest.mark.parametrize("url", URLS)
def test_credentials_in_a_url_are_refused_and_not_shown(url: str) -> None:
    marker = Marker()
    with pytest.raises(ConfigError) as raised:
        storage_from_url(url.format(marker.plain))
    for text in everything(raised.value):
        marker.check(text, url)


@pytest.mark.parametrize("endpoint_url", ENDPOINTS)
@pytest.mark.parametrize("storage_class", [S3Storage, GCSStorage, AzureBlobStorage])
def test_credentials_in_an_endpoint_are_refused_and_not_shown(storage_class: Any, endpoint_url: str) -> None:
    marker = Marker()
    with pytest.raises(ConfigError) as raised:
        storage_class("bucket", endpoint_url=endpoint_url.format(marker.plain))
    for text in everything(raised.value):
        marker.check(text, endpoint_url)


def test_upload_sessions_are_not_in_a_repr() -> None:
    marker = Marker()
    upload = Upload(
        Address("bucket", "a"), f"https://host/o?upload_id={marker.plain}", ObjectAttributes("", None, {}, {})
    )
    marker.check(repr(upload), "the repr")
