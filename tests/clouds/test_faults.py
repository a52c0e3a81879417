"""Faults on the wire: the same ones for all clouds, by the fault proxy. A run without faults shows the requests."""

import gc
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import product
from typing import Any

import pytest

from lakery_cloud import (
    AccessDenied,
    AzureBlobStorage,
    CredentialsError,
    GCSStorage,
    IntegrityError,
    LakeryCloudError,
    NoStorageData,
    ObjectStorage,
    StorageUnavailable,
)
from lakery_cloud.engine import reader, writer
from lakery_cloud.maintenance import sweep
from lakery_cloud.providers.azure import sdk as azure
from lakery_cloud.testing import (
    S3_PROFILES,
    Exchange,
    FaultProxy,
    Rule,
    content,
    digest_of,
    stream_of,
)
from lakery_cloud.testing.faults import (
    Answer,
    CutAnswer,
    Delay,
    ExpiredCredentials,
    Fault,
    FlipAnswerByte,
    FlipRequestByte,
    ResetAfter,
    ResetBefore,
    ResetDuring,
    Stall,
    StallRequest,
    SwallowAnswer,
    Throttle,
)
from tests.conftest import rig_on
from tests.helpers import LOST, NOT_SEEN, TAGS, name_of, proxy_before, write, write_stream
from tests.rigs.azure import AzureRig
from tests.rigs.base import CloudRig, MiB
from tests.rigs.pairs import CLOUDS, PAIRS, PROFILE_PAIRS, Pair, on_each
from tests.rigs.s3_double import S3DoubleRig

# Azure's SDK doesn't close the connection of an interrupted body; the garbage collector warns of it.
pytestmark = [
    pytest.mark.usefixtures("short_pauses"),
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <function Connection.__del__:pytest.PytestUnraisableExceptionWarning"
    ),
]

MAX_ATTEMPTS = 2
PATIENT_ATTEMPTS = 6
"""For a busy machine, where another response may come too late as well."""
RANGE_SIZE = 1000
LARGE = 32 * MiB
"""More than buffers on the way hold."""

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
cloud_rig = rig_on(*SERVERS)

# S3's double accepts small parts; on the other servers of S3 each step sends 5 MiB.
FULLY = {"s3-aws", "s3-sdk", "gcs-strict", "azure-azurite", "azure-sdk"}
on_servers = partial(on_each, "cloud_rig", SERVERS, fully=FULLY)
# Between the client and the proxy alone, where the server sees nothing: once with each client.
CLIENTS = [pair for pair in SERVERS if pair.is_live or pair.name in {*FULLY, "gcs-composite"}]
with_clients = partial(on_each, "cloud_rig", CLIENTS, fully=FULLY)


@pytest.fixture
async def proxy(cloud_rig: CloudRig) -> AsyncIterator[FaultProxy]:
    """A proxy between the rig's storages and its server; the rig itself goes around it."""
    if cloud_rig.is_live:
        pytest.skip("no proxy stands before a real account")
    async with proxy_before(cloud_rig) as proxy:
        yield proxy
    if isinstance(cloud_rig, AzureRig):
        gc.collect()  # so that it warns in none of the tests after this one


def storage_of(rig: CloudRig, **options: Any) -> Any:
    """A storage that tries twice. One part travels at a time: which request meets a fault is known then."""
    usual = {"max_attempts": MAX_ATTEMPTS, "max_concurrent_parts": 1, "concurrent_ranges": 2, "range_size": RANGE_SIZE}
    return rig.storage(**{**usual, **options})


async def there(rig: CloudRig, data: bytes) -> bytes | None:
    """Return the bytes at the content key of the data, without the proxy."""
    found = await rig.get(digest_of(data)["content_hash"])
    return found and found.data


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


async def impatient_storage(rig: CloudRig, *works: Work, **options: Any) -> Any:
    """A storage with a short read time-out, which is still longer than each of the works took just now."""
    longest = 0.0
    async with storage_of(rig, **options) as storage:
        await storage.find(digest_of(b"so that it is connected"))
        for work in works:
            data = await work.prepare(rig, seed=1000)
            started = time.monotonic()
            await work.do(storage, data)
            longest = max(longest, time.monotonic() - started)
    return storage_of(rig, **{**options, "read_timeout": max(0.3, 2 * longest), "max_attempts": PATIENT_ATTEMPTS})


def same_request(exchange: Exchange) -> tuple[str, ...]:
    """What all attempts at one request have in common."""
    sizes = [value for name, value in exchange.headers.items() if name.endswith(("range", "content-length"))]
    path, _, query = exchange.target.partition("?")  # hot requests sort it for the signature
    return exchange.operation, exchange.key, path, *sorted(query.split("&")), *sizes


def check_number_of_attempts(failed: Sequence[Exchange]) -> None:
    """The request was tried so often, and none more often."""
    most = max(Counter(map(same_request, failed)).values())
    is_broken = isinstance(failed[0].fault, (ResetBefore, ResetDuring, ResetAfter))
    # aiohttp and our connection pool repeat a request once whose connection broke: the pool any, aiohttp all but POST.
    headers = failed[0].headers
    is_pooled = headers.get("user-agent", "").startswith("python-gcsfs") and "accept" not in headers
    repeated = 2 if is_broken and (is_pooled or failed[0].method != "POST") else 1
    assert MAX_ATTEMPTS <= most <= MAX_ATTEMPTS * repeated, failed


def check_sent_again_in_full(exchanges: Sequence[Exchange]) -> None:
    """After each fault the same request came again, with all of its body."""
    faults = [(place, exchange) for place, exchange in enumerate(exchanges) if exchange.fault]
    assert faults
    for place, exchange in faults:
        again = [later for later in exchanges[place + 1 :] if same_request(later) == same_request(exchange)]
        assert again, f"{exchange} was not sent again"
        assert again[-1].sent_bytes == int(exchange.headers.get("content-length", 0)), again[-1]


async def sweep_all(storage: ObjectStorage[Any]) -> int:
    return len([leftover async for leftover in sweep(storage, older_than=timedelta(0))])


async def check_clean(rig: CloudRig, storage: ObjectStorage[Any], caplog: pytest.LogCaptureFixture) -> None:
    """Check that nothing temporary is left, or that the failed clean-up was logged and a sweep removes the rest."""
    if any("could not" in record.message for record in caplog.records):
        caplog.clear()
        await sweep_all(storage)
    await rig.check_nothing_temporary()


# Requests that fail


@pytest.mark.case("24")
@on_servers("fault", NOT_SEEN, few=2, ids=name_of)
async def test_request_that_fails_once_is_sent_again_in_full(
    cloud_rig: CloudRig, proxy: FaultProxy, fault: Fault
) -> None:
    async with storage_of(cloud_rig) as storage:
        for seed, step in enumerate(await steps_of(cloud_rig, proxy), start=1):
            if step.can_meet(fault):
                data, before = await step.work.prepare(cloud_rig, seed=seed), len(proxy.exchanges)
                proxy.arm(Rule(fault, step.operation))
                await step.work.do(storage, data)
                check_sent_again_in_full(proxy.exchanges[before:])
                assert await there(cloud_rig, data) == data, step
                await cloud_rig.check_nothing_temporary()


@pytest.mark.case("24")
@on_servers("fault", NOT_SEEN, few=2, ids=name_of)
async def test_request_that_fails_each_time_is_unavailable_and_leaves_nothing(
    cloud_rig: CloudRig, proxy: FaultProxy, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    async with storage_of(cloud_rig) as storage:
        for seed, step in enumerate(await steps_of(cloud_rig, proxy), start=1):
            if step.can_meet(fault) and step.operation != "delete":
                data, before = await step.work.prepare(cloud_rig, seed=seed), len(proxy.exchanges)
                armed = proxy.arm(Rule(fault, step.operation, times=None))
                with pytest.raises(StorageUnavailable):
                    await step.work.do(storage, data)
                proxy.disarm(armed)
                check_number_of_attempts([exchange for exchange in proxy.exchanges[before:] if exchange.fault])
                assert await there(cloud_rig, data) == (data if step.work.is_read else None), step
                await check_clean(cloud_rig, storage, caplog)


# Answers that get lost


@pytest.mark.case("14")
@pytest.mark.case("24")
@on_servers("fault", LOST, ids=name_of)
async def test_success_whose_answer_was_lost_is_success(cloud_rig: CloudRig, proxy: FaultProxy, fault: Fault) -> None:
    async with storage_of(cloud_rig) as storage:
        for seed, step in enumerate(await steps_of(cloud_rig, proxy), start=1):
            if step.can_meet(fault) and step.operation != "begin_upload":
                data, keys = await step.work.prepare(cloud_rig, seed=seed), set(await cloud_rig.keys())
                proxy.arm(Rule(fault, step.operation))
                await step.work.do(storage, data)
                assert await there(cloud_rig, data) == data, step
                assert set(await cloud_rig.keys()) == keys | {digest_of(data)["content_hash"]}
                await cloud_rig.check_nothing_temporary()


@pytest.mark.case("14")
@on_servers("times", [1, None])
async def test_beginning_whose_answer_was_lost_leaves_nothing_that_can_be_found(
    cloud_rig: CloudRig, proxy: FaultProxy, times: int | None
) -> None:
    if "begin_upload" not in [step.operation for step in await steps_of(cloud_rig, proxy)]:
        pytest.skip("its uploads need no beginning")
    data = content(cloud_rig.part_size + 1, seed=1)
    armed = proxy.arm(Rule(SwallowAnswer(), "begin_upload", times=times))
    async with storage_of(cloud_rig) as storage:
        with pytest.raises(StorageUnavailable) if times is None else nullcontext():
            await write_stream(storage, data)
        proxy.disarm(armed)
        assert await sweep_all(storage) == 0
    assert await there(cloud_rig, data) == (data if times else None)
    assert not [key for key in await cloud_rig.keys() if "/" in key]
    if cloud_rig.shows_uploads:  # else a lost session stores nothing, and expires after a week
        assert await cloud_rig.uploads() == []


@pytest.mark.case("14")
async def test_answers_that_are_lost_each_time_leave_the_content_whole_or_not_at_all(
    cloud_rig: CloudRig, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    async with storage_of(cloud_rig) as storage:
        for seed, step in enumerate(await steps_of(cloud_rig, proxy), start=1):
            if step.work.is_read or step.operation in ("begin_upload", "delete"):
                continue
            data = await step.work.prepare(cloud_rig, seed=seed)
            armed = proxy.arm(Rule(SwallowAnswer(), step.operation, times=None))
            with suppress(StorageUnavailable):  # Cloud Storage can be asked how far an upload has come
                await step.work.do(storage, data)
            proxy.disarm(armed)
            assert await there(cloud_rig, data) in (None, data), step
            await check_clean(cloud_rig, storage, caplog)
            await step.work.do(storage, data)
            assert await there(cloud_rig, data) == data


# Clean-up that fails


@pytest.mark.case("23")
@pytest.mark.case("24")
@on_servers("fault", [Answer(503), ResetBefore(), SwallowAnswer(), Answer(403)], ids=name_of)
async def test_what_can_not_be_deleted_is_logged_and_swept(
    cloud_rig: CloudRig, proxy: FaultProxy, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    data = content(cloud_rig.part_size + 1)
    armed = proxy.arm(Rule(fault, "delete", times=None))
    # Content of the class of temporary objects is moved or composed, which leaves no temporary object.
    copied = {"storage_class": "NEARLINE"} if cloud_rig.storage_class is GCSStorage else {}
    async with storage_of(cloud_rig, **copied) as storage:
        await write_stream(storage, data)
        proxy.disarm(armed)
        assert await there(cloud_rig, data) == data
        left = [key for key in await cloud_rig.keys() if "/" in key]
        # A deletion whose response was lost has happened: the storage looks for the object, and does not complain.
        assert bool(left) != isinstance(fault, SwallowAnswer)
        assert ("could not" in caplog.text) == bool(left)
        assert all(key[: len(".tmp/20000101T000000Z")] in caplog.text for key in left)
        assert await sweep_all(storage) == len(left)
    await cloud_rig.check_nothing_temporary()


@pytest.mark.case("24")
@on_servers("fault", [Answer(503), ResetBefore()], ids=name_of)
async def test_store_that_goes_away_at_any_request_leaves_nothing_that_sweep_does_not_find(
    cloud_rig: CloudRig, proxy: FaultProxy, fault: Fault
) -> None:
    async with storage_of(cloud_rig, max_attempts=1) as storage:
        for seed in (-2, -1, 0):  # on Google, the first two streams show how content is copied
            proxy.exchanges.clear()
            await write_stream(storage, content(cloud_rig.part_size + 1, seed=seed))
        for nth in range(1, len(proxy.exchanges) + 1):
            data = content(cloud_rig.part_size + 1, seed=nth)
            armed = proxy.arm(Rule(fault, nth=nth, times=None))
            try:
                await write_stream(storage, data)
            except StorageUnavailable:
                is_written = False
            else:
                is_written = True
            proxy.disarm(armed)
            assert await there(cloud_rig, data) in ((data,) if is_written else (None, data)), nth
            await sweep_all(storage)
            assert not [key for key in await cloud_rig.keys() if "/" in key]
            if cloud_rig.shows_uploads:
                assert await cloud_rig.uploads() == []


# Conflicts


@pytest.mark.case("26")
@on_servers("times", [3, None])
async def test_conflict_with_another_writer_is_tried_again_so_many_times(
    cloud_rig: CloudRig, proxy: FaultProxy, times: int | None
) -> None:
    # Azure's usual code with 409 says that the key has a blob.
    code = "PendingCopyOperation" if cloud_rig.storage_class is AzureBlobStorage else None
    async with storage_of(cloud_rig) as storage:
        for seed, step in enumerate(await steps_of(cloud_rig, proxy), start=1):
            if step.is_on_content and step.operation in ("put", "copy"):
                data, before = await step.work.prepare(cloud_rig, seed=seed), len(proxy.exchanges)
                armed = proxy.arm(Rule(Answer(409, code), step.operation, times=times))
                with pytest.raises(StorageUnavailable) if times is None else nullcontext():
                    await step.work.do(storage, data)
                proxy.disarm(armed)
                sent = [exchange for exchange in proxy.exchanges[before:] if exchange.neutral == step.operation]
                assert len(sent) == (writer.CREATE_ATTEMPTS if times is None else times + 1)
                assert await there(cloud_rig, data) == (data if times else None)
                await cloud_rig.check_nothing_temporary()


@pytest.mark.case("26")
async def test_impossible_conflict_is_an_error_of_ours_and_leaves_nothing(
    cloud_rig: CloudRig, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    async with storage_of(cloud_rig) as storage:
        for seed, step in enumerate(await steps_of(cloud_rig, proxy), start=1):
            if not (step.is_on_content and step.operation in ("put", "copy")) and step.operation != "delete":
                data = await step.work.prepare(cloud_rig, seed=seed)
                armed = proxy.arm(Rule(Answer(409), step.operation, times=None))
                with pytest.raises(LakeryCloudError):
                    await step.work.do(storage, data)
                proxy.disarm(armed)
                assert await there(cloud_rig, data) == (data if step.work.is_read else None)
                await check_clean(cloud_rig, storage, caplog)


# Credentials


@pytest.mark.case("34")
@on_servers(
    "fault, error",
    [(ExpiredCredentials(), CredentialsError), (Answer(403), AccessDenied)],
    few=2,
    ids=lambda row: name_of(row[0]),
)
async def test_credentials_that_are_refused_at_any_step_are_named_and_leave_nothing(
    cloud_rig: CloudRig,
    proxy: FaultProxy,
    fault: Fault,
    error: type[LakeryCloudError],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with storage_of(cloud_rig) as storage:
        for seed, step in enumerate(await steps_of(cloud_rig, proxy), start=1):
            if step.operation != "delete":
                data = await step.work.prepare(cloud_rig, seed=seed)
                armed = proxy.arm(Rule(fault, step.operation, times=None))
                # A writer without the permission to look for existing content goes on, and Google needs no other look.
                is_optional = (error, step.operation, step.work.do) == (AccessDenied, "head", write_stream)
                is_written = is_optional and cloud_rig.storage_class is GCSStorage
                with nullcontext() if is_written else pytest.raises(error):
                    await step.work.do(storage, data)
                proxy.disarm(armed)
                assert await there(cloud_rig, data) == (data if step.work.is_read or is_written else None), step
                await check_clean(cloud_rig, storage, caplog)


# Bodies that break off, stall or change


@pytest.mark.case("27")
@on_servers("place, ranges", [*product([0.5, 0, 1, -1], [1, 3])], few=2)
async def test_body_that_breaks_off_is_read_on_from_the_same_version(
    cloud_rig: CloudRig, proxy: FaultProxy, place: float, ranges: int
) -> None:
    data = content(600_000)
    await cloud_rig.put(digest_of(data)["content_hash"], data)
    offset = int(place) if place != 0.5 else len(data) // ranges // 2
    proxy.arm(Rule(CutAnswer(offset), "get"))
    async with storage_of(cloud_rig, concurrent_ranges=ranges, range_size=200_000) as storage:
        await read(storage, data)
    reads = proxy.exchanges_of("get")
    (cut,) = [exchange for exchange in reads if exchange.fault]
    again = [exchange for exchange in reads[reads.index(cut) + 1 :] if last_of(exchange, data) == last_of(cut, data)]
    assert again, "it was not read on"
    for exchange in again:  # from where it broke, or anew if nothing of it was given out
        assert first_of(cut) <= first_of(exchange) <= first_of(cut) + cut.received_bytes
        assert is_pinned(exchange) or first_of(exchange) == first_of(cut)


@pytest.mark.case("27")
@with_clients("ranges", [1, 3])
async def test_body_that_breaks_off_each_time_is_unavailable_and_never_short(
    cloud_rig: CloudRig, proxy: FaultProxy, ranges: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MAX_RESUMPTIONS", 2)  # Azure's SDK waits for a second before it reads again
    data = content(600_000)
    await cloud_rig.put(digest_of(data)["content_hash"], data)
    proxy.arm(Rule(CutAnswer(0), "get", times=None))
    async with storage_of(cloud_rig, concurrent_ranges=ranges, range_size=200_000) as storage:
        assert await received_before(storage, data, StorageUnavailable) == b""
    # Azure's SDK reads an interrupted body 3 times before it raises.
    most = (reader.MAX_RESUMPTIONS + 1) * 3
    assert 1 < max(Counter(map(same_request, proxy.exchanges_of("get"))).values()) <= most


@pytest.mark.case("28")
@with_clients("after, ranges", [*product([100_000, 0], [1, 3])])
async def test_body_that_stalls_times_out_and_is_read_on(
    cloud_rig: CloudRig, proxy: FaultProxy, after: int, ranges: int
) -> None:
    data = content(600_000)
    await cloud_rig.put(digest_of(data)["content_hash"], data)
    options = {"concurrent_ranges": ranges, "range_size": 200_000}
    async with await impatient_storage(cloud_rig, *WORKS, **options) as storage:
        proxy.arm(Rule(Stall(after), "get"))
        await read(storage, data)


@pytest.mark.case("28")
@with_clients("fault", [Delay(None), Stall(0)], ids=name_of)
async def test_request_that_is_never_answered_times_out_and_is_sent_again(
    cloud_rig: CloudRig, proxy: FaultProxy, fault: Fault
) -> None:
    async with await impatient_storage(cloud_rig, *WORKS) as storage:
        for seed, step in enumerate(await steps_of(cloud_rig, proxy), start=1):
            if step.is_answered or isinstance(fault, Delay):
                data = await step.work.prepare(cloud_rig, seed=seed)
                proxy.arm(Rule(fault, step.operation))
                await step.work.do(storage, data)
                assert await there(cloud_rig, data) == data, step


@pytest.mark.case("28")
@with_clients("work", [write, write_stream], few=2, ids=lambda work: work.__name__)
async def test_body_that_is_not_taken_times_out_and_is_sent_again(
    cloud_rig: CloudRig, proxy: FaultProxy, work: Any
) -> None:
    data = content(LARGE)
    parts = LARGE if work is write else LARGE - cloud_rig.part_size
    sent = [step.operation for step in await steps_of(cloud_rig, proxy) if step.work.do is work and step.has_body]
    operations = [operation for operation in sent if operation in ("put", "upload_part")]
    if not operations:
        pytest.skip("to ask it for the status of an upload ends the upload")
    async with await impatient_storage(cloud_rig, Work("", work, 0, LARGE), part_size=parts) as storage:
        proxy.arm(Rule(StallRequest(1), operations[0]))
        await work(storage, data)
    assert await there(cloud_rig, data) == data
    await cloud_rig.check_nothing_temporary()


@pytest.mark.case("29")
@on_servers("is_deleted, ranges", [*product([False, True], [1, 2])])
async def test_object_that_changes_while_it_is_read_is_an_error_and_never_a_mixture(
    cloud_rig: CloudRig, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, ranges: int, is_deleted: bool
) -> None:
    monkeypatch.setattr(azure, "MAX_READ", 400_000)  # the SDK buffers that many bytes
    data, other = content(900_000), content(1)
    key = digest_of(data)["content_hash"]
    await cloud_rig.put(key, data)
    await cloud_rig.put(digest_of(other)["content_hash"], other)
    async with storage_of(cloud_rig, concurrent_ranges=ranges, range_size=200_000) as storage:
        await storage.read_data(storage.storage_data_of(digest_of(other)))  # the first read of a client is another one
        cut = proxy.arm(Rule(CutAnswer(300_000 if ranges == 1 else 150_000), "get"))

        async def change() -> None:
            await cut.wait()
            await (cloud_rig.delete(key) if is_deleted else cloud_rig.put(key, data[::-1]))

        received = await received_before(storage, data, (IntegrityError, NoStorageData), after_first=change)
    assert received == data[: len(received)] != data


def first_of(exchange: Exchange) -> int:
    """The first byte that a read asks for."""
    return int(_range(exchange)[0])


def last_of(exchange: Exchange, data: bytes) -> int:
    """The last byte of the data that a read asks for."""
    return min(int(_range(exchange)[1] or len(data)), len(data) - 1)


def _range(exchange: Exchange) -> tuple[str, str]:
    header = exchange.headers.get("x-ms-range") or exchange.headers.get("range", "bytes=0-")
    first, _, last = header.removeprefix("bytes=").partition("-")
    return first, last


def is_pinned(exchange: Exchange) -> bool:
    """Whether a read is of one version alone."""
    return "if-match" in exchange.headers or "ifGenerationMatch=" in exchange.target


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


# Bytes that change on the way


@pytest.mark.case("30")
@on_servers("work", [write, write_stream], few=2, ids=lambda work: work.__name__)
async def test_bytes_that_change_on_the_way_to_the_store_are_never_content(
    cloud_rig: CloudRig, proxy: FaultProxy, work: Any
) -> None:
    data = content(100_000 if work is write else cloud_rig.part_size + 1, seed=1)
    sent = {step.operation for step in await steps_of(cloud_rig, proxy) if step.work.do is work}
    operation = "put" if "put" in sent else "upload_part"
    proxy.arm(Rule(FlipRequestByte(50_000), operation))
    async with storage_of(cloud_rig) as storage:
        try:
            await work(storage, data)
        except IntegrityError:
            assert await there(cloud_rig, data) is None
            outcome = "refused"
        else:
            outcome = "stored wrong"
            await received_before(storage, data, IntegrityError)
    assert outcome == ("stored wrong" if cloud_rig.name in CHECK_NO_BODIES and work is write else "refused")
    await cloud_rig.check_nothing_temporary()


@pytest.mark.case("30")
@on_servers("offset, ranges", [*product([100_000, 0, -1], [1, 3])])
async def test_bytes_that_change_on_the_way_to_a_reader_are_an_integrity_error(
    cloud_rig: CloudRig, proxy: FaultProxy, offset: int, ranges: int
) -> None:
    data = content(600_000)
    await cloud_rig.put(digest_of(data)["content_hash"], data)
    proxy.arm(Rule(FlipAnswerByte(offset), "get", times=2))
    async with storage_of(cloud_rig, concurrent_ranges=ranges, range_size=200_000) as storage:
        for _ in range(1 if ranges > 1 else 2):
            assert len(await received_before(storage, data, IntegrityError)) < len(data)
        await read(storage, data)


@pytest.mark.case("30")
@on_servers("seed", range(10))
async def test_damaged_answers_never_make_a_wrong_result(cloud_rig: CloudRig, proxy: FaultProxy, seed: int) -> None:
    async with storage_of(cloud_rig) as storage:
        steps = [step for step in await steps_of(cloud_rig, proxy) if step.is_answered and step.operation != "get"]
        for number, step in enumerate(steps, start=1):
            data = await step.work.prepare(cloud_rig, seed=1000 * seed + number)
            length = 0
            proxy.arm(Rule(FlipAnswerByte(), step.operation))
            with suppress(LakeryCloudError):
                await step.work.do(storage, data)
                length = len(data)
            assert await there(cloud_rig, data) in ((data,) if length else (None, data)), step
            await sweep_all(storage)


# Everything at once

ANY_FAULT: Sequence[Fault] = (
    Answer(500),
    Answer(503),
    Answer(429),
    Answer(409),
    Answer(403),
    ExpiredCredentials(),
    ResetBefore(),
    ResetDuring(),
    ResetAfter(),
    SwallowAnswer(),
    CutAnswer(),
    FlipRequestByte(),
    FlipAnswerByte(),
    Delay(0.01),
    Stall(seconds=0.01),
    StallRequest(seconds=0.01),
    Throttle(100 * MiB),
)


@pytest.mark.case("24")
@pytest.mark.case("30")
@on_servers("seed", range(20), few=2)
async def test_random_faults_never_lose_or_mix(cloud_rig: CloudRig, proxy: FaultProxy, seed: int) -> None:
    rules = [Rule(fault, times=None, probability=0.1 / len(ANY_FAULT)) for fault in ANY_FAULT]
    written: list[bytes] = []
    async with FaultProxy(cloud_rig.server_url, rules, seed=seed) as faulty:
        cloud_rig.point_to(faulty.url)
        async with storage_of(cloud_rig, max_concurrent_parts=4) as storage:
            for work in WORKS:
                data = await work.prepare(cloud_rig, seed=100 * seed + len(written))
                try:
                    await work.do(storage, data)
                except LakeryCloudError:
                    continue
                written.append(data)
    cloud_rig.point_to(proxy.url)
    async with storage_of(cloud_rig) as storage:
        for data in written:
            if cloud_rig.name not in CHECK_NO_BODIES:
                assert await there(cloud_rig, data) == data
            elif await there(cloud_rig, data) != data:
                await received_before(storage, data, IntegrityError)
        await sweep_all(storage)
    assert not [key for key in await cloud_rig.keys() if "/" in key]
    if cloud_rig.shows_uploads:
        assert await cloud_rig.uploads() == []
