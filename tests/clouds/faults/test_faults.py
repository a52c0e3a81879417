"""Faults on the wire: the same ones for all clouds, by the fault proxy. A run without faults shows the requests."""

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext, suppress

import pytest

from lakery_cloud import (
    AccessDenied,
    AzureBlobStorage,
    CredentialsError,
    GCSStorage,
    IntegrityError,
    LakeryCloudError,
    StorageUnavailable,
)
from lakery_cloud.engine import writer
from lakery_cloud.testing import Exchange, FaultProxy, Rule, content, digest_of
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
from tests.clouds.faults.works import (
    CHECK_NO_BODIES,
    CLIENTS,
    MAX_ATTEMPTS,
    WORKS,
    check_clean,
    on_servers,
    received_before,
    same_request,
    steps_of,
    storage_of,
    sweep_all,
    there,
    with_clients,
)
from tests.helpers import LOST, NOT_SEEN, name_of, write_stream
from tests.rigs.base import CloudRig, MiB
from tests.rigs.pairs import params

# Azure's SDK doesn't close the connection of an interrupted body; the garbage collector warns of it.
pytestmark = [
    pytest.mark.usefixtures("short_pauses"),
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <function Connection.__del__:pytest.PytestUnraisableExceptionWarning"
    ),
]


def check_number_of_attempts(failed: Sequence[Exchange]) -> None:
    """The request was tried so often, and none more often."""
    most = max(Counter(map(same_request, failed)).values())
    is_broken = isinstance(failed[0].fault, (ResetBefore, ResetDuring, ResetAfter))
    # aiohttp and our connection pool repeat a request once whose connection broke: the pool any, aiohttp all but POST.
    headers = failed[0].headers
    is_pooled = "accept" not in headers
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


# Requests that fail


@pytest.mark.case("24")
@with_clients("fault", NOT_SEEN, few=2, ids=name_of)
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
@with_clients("fault", NOT_SEEN, few=2, ids=name_of)
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
@with_clients("fault", [Answer(503), ResetBefore(), SwallowAnswer(), Answer(403)], ids=name_of)
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
@with_clients("times", [3, None])
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
@pytest.mark.parametrize("cloud_rig", params(CLIENTS), indirect=True)
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
@with_clients(
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
                # A writer without the permission to look for existing content goes on, and only Azure needs another look.
                is_optional = (error, step.operation, step.work.do) == (AccessDenied, "head", write_stream)
                is_written = is_optional and cloud_rig.storage_class is not AzureBlobStorage
                with nullcontext() if is_written else pytest.raises(error):
                    await step.work.do(storage, data)
                proxy.disarm(armed)
                assert await there(cloud_rig, data) == (data if step.work.is_read or is_written else None), step
                await check_clean(cloud_rig, storage, caplog)


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
