"""Helpers of many tests: save content, put a proxy before a server, run processes, and wait."""

import asyncio
import hashlib
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from lakery_cloud import DigestingStream, ObjectStorage, SerializedData, SerializedDataStream
from lakery_cloud.testing import Exchange, FaultProxy, Rule, ScriptedProxy, content, digest_of
from lakery_cloud.testing.faults import (
    Answer,
    CutAnswer,
    Fault,
    ResetAfter,
    ResetBefore,
    ResetDuring,
    SwallowAnswer,
)
from tests.commands import forks
from tests.rigs.base import CloudRig

PATIENCE = 300
"""Seconds after which something hangs. A loaded machine takes many times as long as an idle one."""

COMMAND = (sys.executable, "-c", "from lakery_cloud.cli.main import main; main()")
"""The `lakery-cloud` command of the tested tree."""

TAGS = {"tag": "a b"}
"""The tags that `write` and `write_stream` set by default."""


# Content.


def blob(
    data: bytes = b"content", content_type: str = "text/plain", content_encoding: str | None = None
) -> SerializedData:
    return SerializedData(data=data, content_type=content_type, content_encoding=content_encoding)


def blob_stream(
    chunks: Iterable[bytes] | AsyncGenerator[bytes],
    content_type: str = "text/plain",
    content_encoding: str | None = None,
) -> SerializedDataStream:
    source = chunks if isinstance(chunks, AsyncGenerator) else each(chunks)
    return SerializedDataStream(data_stream=source, content_type=content_type, content_encoding=content_encoding)


async def each(chunks: Iterable[bytes]) -> AsyncGenerator[bytes]:
    for chunk in chunks:
        yield chunk


def hash_of(data: bytes | str) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


async def write(storage: ObjectStorage[Any], data: bytes = b"data", tags: Mapping[str, str] = TAGS) -> Any:
    """Write one blob, and return its storage data."""
    return await storage.write_data(data, digest_of(data), dict(tags))


async def write_stream(
    storage: ObjectStorage[Any], data: bytes | AsyncGenerator[bytes] | DigestingStream, tags: Mapping[str, str] = TAGS
) -> Any:
    """Write a stream, or bytes as a stream of one chunk, and return its storage data."""
    if isinstance(data, DigestingStream):
        stream = data
    else:
        stream = DigestingStream(blob_stream(data if isinstance(data, AsyncGenerator) else [data]))
    return await storage.write_data_stream(stream, stream.get_digest, dict(tags))


# Addresses.


@contextmanager
def closed_port() -> Iterator[str]:
    """The URL of a port without a listener. Until the end nothing else can listen on it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


# Requests.


HOT_REQUESTS = {"put", "get", "head", "upload_part"}
"""The requests that lakery-cloud sends without the SDK, by the names that all clouds share."""

NOT_SEEN = [Answer(503), ResetAfter(), ResetDuring(), ResetBefore(), Answer(500), Answer(429), Answer(408)]
"""Faults of requests that the server never sees."""
LOST = [SwallowAnswer(), CutAnswer(0), CutAnswer(-1)]
"""Faults of requests that the server acts on."""


def name_of(fault: Fault) -> str:
    """Return the id of a test with this fault."""
    return f"{type(fault).__name__}{getattr(fault, 'status', '')}"


@asynccontextmanager
async def proxy_before(rig: CloudRig, *rules: Rule) -> AsyncIterator[FaultProxy]:
    """A proxy between the rig's server and the storages that are made from now on; the rig itself goes around it."""
    async with FaultProxy(rig.server_url, rules) as proxy:
        rig.point_to(proxy.url)
        yield proxy


@asynccontextmanager
async def scripted_proxy_before(rig: CloudRig) -> AsyncIterator[ScriptedProxy]:
    """The same with a proxy that follows a script."""
    async with ScriptedProxy(rig.server_url) as proxy:
        rig.point_to(proxy.url)
        yield proxy


def is_by_the_sdk(exchange: Exchange) -> bool:
    """Whether the SDK of S3 or Azure sent the request. Cloud Storage has none."""
    return not {"amz-sdk-invocation-id", "x-ms-client-request-id"}.isdisjoint(exchange.headers)


def ours(proxy: FaultProxy) -> set[str]:
    """Return the operations that lakery-cloud sent without the SDK, by the names that all clouds share."""
    return {exchange.neutral for exchange in proxy.exchanges if not is_by_the_sdk(exchange)}


def look_after_parts(operations: Iterable[str], look: str, parts: Collection[str]) -> list[str]:
    """The operations, with the first look at the content key after all parts: it is sent beside the last ones."""
    found = list(operations)
    found.remove(look)
    last = max(number for number, operation in enumerate(found) if operation in parts)
    return [*found[: last + 1], look, *found[last + 1 :]]


async def use_hot_requests(storage: ObjectStorage[Any], *, seed: int = 0) -> None:
    """Put, get, head and, where the cloud has parts, upload a part; check the results."""
    data, parts = content(200_000, seed=seed), content(storage.settings.part_size + 1, seed=seed)
    assert await storage.read_data(await write(storage, data)) == data
    await write(storage, data)
    assert await storage.read_data(await write(storage, b"")) == b""
    assert await storage.read_data(await write_stream(storage, parts)) == parts


# Processes.


def run_python(script: str, *arguments: str, options: Sequence[str] = ()) -> str:
    """Run a script in a new Python process, and return its output. It must succeed, and print no errors."""
    command = [sys.executable, *options, "-c", textwrap.dedent(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def run_command(
    *arguments: object, data: bytes = b"", cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run the `lakery-cloud` command in a process of its own."""
    return forks().run(
        [*map(str, arguments)], data=data, folder=str(cwd or Path.cwd()), environment=env or dict(os.environ)
    )


# Waiting.


def wait_until(condition: Callable[[], object]) -> None:
    """Wait, in a thread or a synchronous test, until the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.01)


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds, while other tasks run."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110, a condition of any kind has no event
            await asyncio.sleep(0.005)


async def let_others_run(rounds: int = 5) -> None:
    """Let all other tasks run until they wait."""
    for _ in range(rounds):
        await asyncio.sleep(0)
