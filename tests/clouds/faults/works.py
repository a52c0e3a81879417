"""What meets faults: works on a storage, and the requests that a clean run of each sends."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from lakery_cloud import ObjectStorage
from lakery_cloud.maintenance import sweep
from lakery_cloud.testing import S3_PROFILES, Exchange, FaultProxy, content, digest_of, stream_of
from lakery_cloud.testing.faults import CutAnswer, Fault, ResetDuring
from tests.helpers import TAGS, write, write_stream
from tests.rigs.azure import AzureRig
from tests.rigs.base import CloudRig
from tests.rigs.pairs import CLOUDS, PAIRS, PROFILE_PAIRS, Pair, on_each
from tests.rigs.s3_double import S3DoubleRig

MAX_ATTEMPTS = 2
RANGE_SIZE = 1000
CANNOT = {"GCSStorage on FakeGCS": ["upload_part"]}  # to ask it for the status of an upload ends the upload
CHECK_NO_BODIES = {"S3Storage on MotoServer", "GCSStorage on FakeGCS", "GCSStorage on FakeGCS, composite uploads"}
"""Servers that store a blob with a wrong checksum. Its reader notices."""

SERVERS = (
    *(pair for pair in PAIRS if pair.cloud in CLOUDS),
    *(pair for pair in PROFILE_PAIRS if pair.name == "s3-aws"),
    # The same with all requests by the SDK.
    Pair("s3-sdk", lambda double: S3DoubleRig(S3_PROFILES["aws"], double, fast_lane=False), "strict_s3"),
    Pair("azure-sdk", lambda server: AzureRig("Azurite", server, fast_lane=False), "azurite"),
)
# S3's double accepts small parts; on the other servers of S3 each step sends 5 MiB.
FULLY = {"s3-aws", "s3-sdk", "gcs-strict", "azure-azurite", "azure-sdk"}
on_servers = partial(on_each, "cloud_rig", SERVERS, fully=FULLY)
# Between the client and the proxy alone, where the server sees nothing: once with each client.
CLIENTS = [pair for pair in SERVERS if pair.is_live or pair.name in {*FULLY, "gcs-composite"}]
with_clients = partial(on_each, "cloud_rig", CLIENTS, fully=FULLY)


def storage_of(rig: CloudRig, **options: Any) -> Any:
    """A storage that tries twice. One part travels at a time: which request meets a fault is known then."""
    usual = {"max_attempts": MAX_ATTEMPTS, "max_concurrent_parts": 1, "concurrent_ranges": 2, "range_size": RANGE_SIZE}
    return rig.storage(**{**usual, **options})


async def there(rig: CloudRig, data: bytes) -> bytes | None:
    """Return the bytes at the content key of the data, without the proxy."""
    found = await rig.get(digest_of(data)["content_hash"])
    return found and found.data


async def received_before(
    storage: ObjectStorage[Any], data: bytes, error: Any, *, after_first: Callable[[], Awaitable[None]] | None = None
) -> bytes:
    """Return the bytes that a consumer of the stream gets before the error."""
    received = b""
    async with aclosing(storage.read_data_stream(storage.storage_data_of(digest_of(data)))) as chunks:
        with pytest.raises(error):
            async for chunk in chunks:
                if after_first is not None and not received:
                    await after_first()
                received += chunk
    return received


async def read(storage: ObjectStorage[Any], data: bytes) -> None:
    assert await storage.read_data(storage.storage_data_of(digest_of(data))) == data


@dataclass(frozen=True)
class Work:
    """An operation on a storage.

    Attributes:
        name: Its name.
        do: The operation.
        parts: How many parts of the rig its content has, plus `size` bytes.
        size: How many bytes.
        is_read: Whether it reads existing content.
    """

    name: str
    do: Callable[[Any, bytes], Awaitable[object]]
    parts: int
    size: int
    is_read: bool = False

    async def prepare(self, rig: CloudRig, *, seed: int) -> bytes:
        """The content, which is there already if the work is to read it."""
        data = content(self.parts * rig.part_size + self.size, seed=seed)
        if self.is_read:
            await rig.put(digest_of(data)["content_hash"], data)
        return data


async def write_known(storage: ObjectStorage[Any], data: bytes) -> None:
    stream = stream_of([data], expected=digest_of(data))
    await storage.write_data_stream(stream, stream.get_digest, TAGS)


WORKS = [
    Work("write a blob", write, 0, RANGE_SIZE),
    Work("write a stream", write_stream, 1, 1),
    Work("write a stream with a known digest", write_known, 1, 2),
    Work("read", read, 0, RANGE_SIZE, is_read=True),
    Work("read in ranges", read, 0, 2 * RANGE_SIZE + 1, is_read=True),
]


@dataclass(frozen=True)
class Step:
    """A request that a clean run of some work sends.

    Attributes:
        work: The work.
        operation: The request, by the name that all clouds share.
        is_on_content: Whether it is about a content key, and not a temporary one.
        has_body: Whether it has one.
        is_answered: Whether its answer has a body.
    """

    work: Work
    operation: str
    is_on_content: bool
    has_body: bool
    is_answered: bool

    def can_meet(self, fault: Fault) -> bool:
        """Whether the fault has something to happen to."""
        return not (isinstance(fault, ResetDuring) and not self.has_body) and not (
            isinstance(fault, CutAnswer) and not self.is_answered
        )

    def __str__(self) -> str:
        return f"{self.work.name}: {self.operation}"


_steps: dict[tuple[str, bool], list[Step]] = {}


async def steps_of(rig: CloudRig, proxy: FaultProxy) -> list[Step]:
    """All steps of all works on this rig, as a clean run of it shows them; run once for each rig."""
    kind = rig.name, rig.settings.get("fast_lane", True)
    if kind not in _steps:
        found: list[Step] = []
        async with storage_of(rig) as storage:
            # After its first move in a bucket of Cloud Storage, a client asks whether the bucket keeps the old object.
            await write_stream(storage, content(rig.part_size + 1, seed=-1))
            for work in WORKS:
                if work.do is write_known and not (await storage.transport()).uploads_to_content:
                    continue
                data, before = await work.prepare(rig, seed=0), len(proxy.exchanges)
                await work.do(storage, data)
                sent = proxy.exchanges[before:]
                for operation in dict.fromkeys(exchange.neutral for exchange in sent):
                    if operation in ("", *CANNOT.get(rig.name, ())):
                        continue
                    first = next(exchange for exchange in sent if exchange.neutral == operation)
                    is_on_content = "/" not in first.key
                    found.append(Step(work, operation, is_on_content, first.sent_bytes > 0, first.received_bytes > 0))
        _steps[kind] = found
    return _steps[kind]


def same_request(exchange: Exchange) -> tuple[str, ...]:
    """What all attempts at one request have in common."""
    sizes = [value for name, value in exchange.headers.items() if name.endswith(("range", "content-length"))]
    path, _, query = exchange.target.partition("?")  # hot requests sort it for the signature
    return exchange.operation, exchange.key, path, *sorted(query.split("&")), *sizes


async def sweep_all(storage: ObjectStorage[Any]) -> int:
    return len([leftover async for leftover in sweep(storage, older_than=timedelta(0))])


async def check_clean(rig: CloudRig, storage: ObjectStorage[Any], caplog: pytest.LogCaptureFixture) -> None:
    """Check that nothing temporary is left, or that the failed clean-up was logged and a sweep removes the rest."""
    if any("could not" in record.message for record in caplog.records):
        caplog.clear()
        await sweep_all(storage)
    await rig.check_nothing_temporary()
