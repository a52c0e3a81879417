"""No secret is ever shown: in a repr, an error, what stands behind it, a log line, a pickle or the command's output."""

import asyncio
import base64
import inspect
import logging
import os
import pickle
import pprint
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aioboto3
import google.oauth2.credentials
import pytest
from adlfs import AzureBlobFileSystem
from aiobotocore.config import AioConfig
from azure.core.credentials import AccessToken, AzureNamedKeyCredential, AzureSasCredential
from azure.storage.blob.aio import BlobServiceClient
from gcsfs.core import GCSFileSystem
from hypothesis import given
from hypothesis import strategies as st

import lakery_cloud
from lakery_cloud import (
    AzureBlobStorage,
    ConfigError,
    FileStorage,
    GCSStorage,
    LakeryCloudError,
    MemoryStorage,
    ObjectStorage,
    S3Storage,
    storage_from_url,
)
from lakery_cloud.config.urls import STORAGE_CLASSES
from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.error_messages import redact, redact_error
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import Upload
from lakery_cloud.testing import content, digest_of, stream_of
from lakery_cloud.testing.faults import (
    Answer,
    ExpiredCredentials,
    Fault,
    FaultProxy,
    ResetAfter,
    Rule,
)
from tests.telemetry import Exported

COMMAND = [sys.executable, "-c", "from lakery_cloud.cli.main import main; main()"]

# Every setting is in one of these tables; a new one must be put there by who adds it.
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
CLOUD = {*ENGINE, "max_attempts", "connect_timeout", "read_timeout", "fast_lane", "endpoint_url"}
"""`endpoint_url` is no secret, since one that holds any is refused."""
PUBLIC: Mapping[type, set[str]] = {
    MemoryStorage: {*ENGINE, "bucket", "prefix"},
    FileStorage: {*ENGINE, "root", "prefix", "create"},
    S3Storage: {
        *(*CLOUD, "bucket", "prefix", "region", "profile", "addressing_style", "sse", "kms_key_id", "storage_class"),
        *("requester_pays", "conditional_writes"),
    },
    GCSStorage: {
        *(*CLOUD, "bucket", "prefix", "project", "user_project", "kms_key_name", "storage_class", "composite_uploads")
    },
    AzureBlobStorage: {*CLOUD, "container", "prefix", "account_name", "access_tier", "blob_tags"},
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


class Marker:
    """A secret that can be found again, however it is written."""

    def __init__(self) -> None:
        self.key = base64.b64encode(b"+/" + os.urandom(30)).decode()
        self.plain = os.urandom(12).hex()

    @property
    def forms(self) -> list[str]:
        return [
            self.key,
            quote(self.key, safe=""),
            quote(self.key),
            self.plain,
            base64.b64encode(self.plain.encode()).decode(),
        ]

    def check(self, text: str | bytes, where: str) -> None:
        shown = text.decode(errors="replace") if isinstance(text, bytes) else text
        for form in self.forms:
            assert form not in shown, f"{where} shows the secret: {shown:.3000}"


@dataclass
class Given:
    """What a storage is given.

    Attributes:
        settings: Keyword arguments.
        environment: Variables.
        pickles: Whether it still pickles.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    pickles: bool = False


class TokenCredential:
    """An asynchronous token credential, as azure.identity.aio has them. Its repr is the default one."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken(self._token, 4_000_000_000)

    async def close(self) -> None:
        pass


Giver = Callable[[Marker, str, AsyncExitStack], Any]
GIVERS: dict[tuple[type, str, str], Giver] = {}
"""(storage class, setting or `environment`, label) -> what gives a secret to a storage at an URL."""


def gives(storage_class: type, setting: str, label: str = "") -> Callable[[Giver], Giver]:
    def note(giver: Giver) -> Giver:
        GIVERS[storage_class, setting, label] = giver
        return giver

    return note


def s3_keys(marker: Marker) -> dict[str, str]:
    return {"aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": marker.key, "aws_session_token": marker.plain}


@gives(S3Storage, "session")
async def s3_session(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    return Given({"session": aioboto3.Session(**s3_keys(marker)), "endpoint_url": url, "region": "us-east-1"})


@gives(S3Storage, "client")
async def s3_client(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    session = aioboto3.Session(**s3_keys(marker))
    opening = session.client(
        "s3", endpoint_url=url, region_name="us-east-1", config=AioConfig(retries={"total_max_attempts": 1})
    )
    client = await stack.enter_async_context(opening)
    return Given({"client": client})


@gives(S3Storage, "environment")
async def s3_environment(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    environment = {name.upper(): value for name, value in s3_keys(marker).items()}
    return Given({"endpoint_url": url, "region": "us-east-1"}, environment, pickles=True)


@gives(S3Storage, "environment", "endpoint")
async def s3_environment_endpoint(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    endpoint = url.replace("://", f"://me:{marker.plain}@")
    keys = {name.upper(): value for name, value in s3_keys(marker).items()}
    return Given({"region": "us-east-1"}, {**keys, "AWS_ENDPOINT_URL_S3": endpoint}, pickles=True)


@gives(GCSStorage, "token", "raw")
async def gcs_token_raw(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    return Given({"token": marker.plain, "endpoint_url": url})


@gives(GCSStorage, "token", "credentials")
async def gcs_token_credentials(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    credentials = google.oauth2.credentials.Credentials(
        marker.plain, refresh_token=marker.plain, client_id="me", client_secret=marker.key
    )
    return Given({"token": credentials, "endpoint_url": url})


@gives(GCSStorage, "fs")
async def gcs_fs(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    credentials = google.oauth2.credentials.Credentials(marker.plain)
    fs = GCSFileSystem(token=credentials, endpoint_url=url, asynchronous=True, skip_instance_cache=True)

    async def close() -> None:
        if fs._session is not None:
            await fs._session.close()

    stack.push_async_callback(close)
    return Given({"fs": fs})


@gives(GCSStorage, "environment")
async def gcs_environment(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    host = url.replace("://", f"://me:{marker.plain}@")
    return Given({}, {"STORAGE_EMULATOR_HOST": host}, pickles=True)


def connection_string(marker: Marker, url: str) -> str:
    return f"AccountName=me;AccountKey={marker.key};BlobEndpoint={url}/me"


def signature(marker: Marker) -> str:
    return f"sv=2024-11-04&ss=b&srt=sco&sp=rwdlact&se=2099-01-01T00:00:00Z&sig={quote(marker.key, safe='')}"


@gives(AzureBlobStorage, "account_key")
async def azure_account_key(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    return Given({"account_name": "me", "account_key": marker.key, "endpoint_url": f"{url}/me"})


@gives(AzureBlobStorage, "account_key", "that is none")
async def azure_account_key_that_is_none(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    return Given({"account_name": "me", "account_key": f"{marker.plain}!", "endpoint_url": f"{url}/me"})


@gives(AzureBlobStorage, "connection_string")
async def azure_connection_string(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    return Given({"connection_string": connection_string(marker, url)})


@gives(AzureBlobStorage, "connection_string", "with a signature")
async def azure_connection_string_with_a_signature(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    return Given({"connection_string": f"BlobEndpoint={url}/me;SharedAccessSignature={signature(marker)}"})


@gives(AzureBlobStorage, "connection_string", "that is none")
async def azure_connection_string_that_is_none(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    return Given({"connection_string": f"{marker.key};{marker.plain}"})


@gives(AzureBlobStorage, "sas_token")
async def azure_sas_token(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    return Given({"account_name": "me", "sas_token": signature(marker), "endpoint_url": f"{url}/me"})


@gives(AzureBlobStorage, "credential", "named key")
async def azure_credential_named_key(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    credential = AzureNamedKeyCredential("me", marker.key)
    return Given({"account_name": "me", "credential": credential, "endpoint_url": f"{url}/me"})


@gives(AzureBlobStorage, "credential", "signature")
async def azure_credential_signature(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    credential = AzureSasCredential(signature(marker))
    return Given({"account_name": "me", "credential": credential, "endpoint_url": f"{url}/me"})


@gives(AzureBlobStorage, "credential", "token")
async def azure_credential_token(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    credential = TokenCredential(marker.plain)
    return Given({"account_name": "me", "credential": credential, "endpoint_url": f"{url}/me"})


@gives(AzureBlobStorage, "fs")
async def azure_fs(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    fs = AzureBlobFileSystem(
        connection_string=connection_string(marker, url), asynchronous=True, skip_instance_cache=True
    )
    await fs.service_client.close()
    fs.service_client = BlobServiceClient.from_connection_string(connection_string(marker, url), retry_total=0)
    stack.push_async_callback(fs.service_client.close)
    return Given({"fs": fs})


@gives(AzureBlobStorage, "environment", "connection string")
async def azure_environment_connection_string(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    return Given({}, {"AZURE_STORAGE_CONNECTION_STRING": connection_string(marker, url)}, pickles=True)


@gives(AzureBlobStorage, "environment", "key")
async def azure_environment_key(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    environment = {"AZURE_STORAGE_ACCOUNT_NAME": "me", "AZURE_STORAGE_ACCOUNT_KEY": marker.key}
    return Given({"endpoint_url": f"{url}/me"}, environment, pickles=True)


@gives(AzureBlobStorage, "environment", "signature")
async def azure_environment_signature(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    environment = {"AZURE_STORAGE_ACCOUNT_NAME": "me", "AZURE_STORAGE_SAS_TOKEN": signature(marker)}
    return Given({"endpoint_url": f"{url}/me"}, environment, pickles=True)


def test_every_secret_setting_is_given_in_a_test() -> None:
    for storage_class, secret in SECRET.items():
        assert secret <= {setting for kind, setting, _ in GIVERS if kind is storage_class}, storage_class


# What goes wrong.


@asynccontextmanager
async def answering(answer: Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """URL of a server that answers the head of each request with whatever bytes, and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            writer.write(answer(await reader.readuntil(b"\r\n\r\n")))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def _echo(head: bytes) -> bytes:
    """403, with the first line of the request, where a signature stands, in the error's message."""
    line = head.partition(b"\r\n")[0].decode().replace("&", "&amp;")
    body = f'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>no: {line}</Message></Error>'.encode()
    return b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


@asynccontextmanager
async def faulty(fault: Fault) -> AsyncIterator[str]:
    async with FaultProxy("http://127.0.0.1:9", [Rule(fault, times=None, probability=0.999999)]) as proxy:
        yield proxy.url


@asynccontextmanager
async def closed_port() -> AsyncIterator[str]:
    async with answering(_echo) as url:
        pass
    yield url


TROUBLES: Mapping[str, Callable[[], Any]] = {
    "closed port": closed_port,
    "400": lambda: faulty(Answer(400)),
    "401": lambda: faulty(Answer(401)),
    "403": lambda: faulty(Answer(403)),
    "404": lambda: faulty(Answer(404)),
    "500": lambda: faulty(Answer(500)),
    "expired": lambda: faulty(ExpiredCredentials()),
    "reset": lambda: faulty(ResetAfter()),
    "echo": lambda: answering(_echo),
    "no HTTP": lambda: answering(lambda _: b"garbage\r\n\r\n"),
    "broken header": lambda: answering(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
    "broken body": lambda: answering(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<a"),
    "redirect": lambda: answering(lambda _: b"HTTP/1.1 301 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"),
}
DATA = content(600_000)


async def operations(storage: ObjectStorage[Any]) -> AsyncIterator[tuple[str, Any]]:
    """Each method that sends requests."""
    digest = digest_of(DATA)
    storage_data = storage.storage_data_of(digest)
    stream = stream_of(DATA)
    yield "write_data", storage.write_data(DATA, digest, {"a": "b"})
    yield "write_data_stream", storage.write_data_stream(stream, stream.get_digest, {})
    yield "read_data", storage.read_data(storage_data)
    yield "stat", storage.stat(storage_data)
    yield "delete", storage.delete(storage_data)
    yield "find", storage.find(digest)
    yield "list", anext(storage.list())


class Logs(logging.Handler):
    """What our loggers say, at any level, with the tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{self.format(record)} {record.args!r}")


@pytest.fixture
def logs() -> Iterator[Logs]:
    handler, logger = Logs(), logging.getLogger("lakery_cloud")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


def everything(error: BaseException) -> Iterator[str]:
    """All that a traceback, a report or a repr shows of an error and of those behind it, suppressed or not."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        behind = waiting.pop()
        if behind is None or any(behind is known for known in seen):
            continue
        seen.append(behind)
        waiting += (behind.__cause__, behind.__context__)
        yield from (str(behind), repr(behind), repr(behind.args), *traceback.format_exception_only(behind))
    yield "".join(traceback.format_exception(error))


def check_storage(storage: ObjectStorage[Any], marker: Marker, *, pickles: bool) -> None:
    shown = [repr(storage), str(storage), f"{storage}", repr(vars(storage)), pprint.pformat(vars(storage))]
    shown += [repr(storage.settings), repr(storage.keys), repr([storage])]
    for text in shown:
        marker.check(text, "the storage")
    if pickles:
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            marker.check(pickle.dumps(storage, protocol), "the pickle")
    else:
        with pytest.raises(ConfigError, match="can't be pickled") as raised:
            pickle.dumps(storage)
        for text in everything(raised.value):
            marker.check(text, "the error of pickling")


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize(
    "giver", GIVERS, ids=lambda key: "-".join(filter(None, (key[0].__name__, key[1], key[2].replace(" ", "_"))))
)
async def test_secret_is_never_shown(
    giver: tuple[type, str, str], trouble: str, logs: Logs, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage_class, setting, _ = giver
    marker = Marker()
    raised = 0
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
            async for name, operation in operations(storage):
                try:
                    await operation
                except (LakeryCloudError, StopAsyncIteration) as error:
                    raised += 1
                    for text in everything(error):
                        marker.check(text, name)
                except Exception as error:  # noqa: BLE001, an answer that no store gives; it must not show it either
                    for text in everything(error):
                        marker.check(text, name)
            check_storage(storage, marker, pickles=given.pickles)
    assert raised
    for line in logs.lines:
        marker.check(line, "the log")
    assert exported.spans
    marker.check(exported.text(), "telemetry")


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


def test_what_is_no_credential_stays() -> None:
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


@pytest.mark.parametrize("arguments", [[], ["--debug"]], ids=["", "debug"])
async def test_command_shows_no_credentials(arguments: list[str]) -> None:
    marker = Marker()
    async with answering(_echo) as url:
        azure = {"AZURE_STORAGE_CONNECTION_STRING": f"BlobEndpoint={url}/me;SharedAccessSignature={signature(marker)}"}
        s3 = {**{name.upper(): value for name, value in s3_keys(marker).items()}, "AWS_ENDPOINT_URL_S3": url}
        for storage, environment in (
            *((each.format(marker.plain), {}) for each in URLS[:4]),
            ("az://container", azure),
            ("s3://bucket?region=us-east-1", s3),
            ("gs://bucket", {"STORAGE_EMULATOR_HOST": url.replace("://", f"://me:{marker.plain}@")}),
        ):
            done = await asyncio.to_thread(
                subprocess.run,
                [*COMMAND, *arguments, "put", __file__, "--storage", storage],
                env={**os.environ, **environment},
                capture_output=True,
                timeout=60,
            )
            assert done.returncode in (1, 2, 4, 6), done.stderr
            assert done.stderr
            marker.check(done.stdout + done.stderr, f"the command on {storage.partition(':')[0]}")


def test_upload_sessions_are_not_in_a_repr() -> None:
    marker = Marker()
    upload = Upload(
        Address("bucket", "a"), f"https://host/o?upload_id={marker.plain}", ObjectAttributes("", None, {}, {})
    )
    marker.check(repr(upload), "the repr")
