"""Rounds of load on one storage behind faults, each with an audit that goes around both."""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from lakery_cloud import ObjectStorage
from lakery_cloud.engine.keys import TEMPORARY_FOLDER
from lakery_cloud.maintenance import sweep
from lakery_cloud.testing import FaultProxy, Rule
from lakery_cloud.testing.faults import (
    Answer,
    CutAnswer,
    Delay,
    Fault,
    FlipAnswerByte,
    FlipRequestByte,
    ResetAfter,
    ResetBefore,
    ResetDuring,
    Stall,
    SwallowAnswer,
    Throttle,
)
from tests.rigs.base import CloudRig, PairRig
from tests.soak.levels import Levels
from tests.soak.load import SMALLEST, Ledger, Load

LIKELY, RARE = 0.01, 0.005
READ_TIMEOUT = 2.0
AUDIT_READS = 8

FAULTS: tuple[tuple[Fault, str | None, float], ...] = (
    *((Answer(status), None, LIKELY) for status in (408, 429, 500, 503)),
    *((fault, None, LIKELY) for fault in (ResetBefore(), ResetAfter(), SwallowAnswer())),
    *((ResetDuring(), operation, LIKELY) for operation in ("put", "upload_part")),
    (Delay(0.2), None, LIKELY),
    (Delay(None), None, RARE),
    (CutAnswer(), "get", 2 * LIKELY),
    (CutAnswer(), "list", 2 * LIKELY),
    (Stall(), "get", RARE),
    (Throttle(2_000_000), "get", RARE),
    (Throttle(2_000_000), "upload_part", RARE),
    (FlipAnswerByte(), "get", LIKELY),
    (FlipRequestByte(), "upload_part", LIKELY),
    # Near the end, where the bytes are content on every cloud: Cloud Storage gets name and content in one body.
    (FlipRequestByte(100 - SMALLEST), "put", LIKELY),
)
"""Fault, operation, and how likely a request of it meets the fault."""

STORES_DAMAGE = re.compile("FakeGCS|MotoServer")
"""Servers that store a blob whose checksum is wrong."""


@dataclass
class Figures:
    """The counts of a soak.

    Attributes:
        rounds: Rounds of load and audit.
        ledger: Operations, errors and losses.
        requests: Requests that reached the proxy.
        faults: Faults that took effect, by class.
        swept: What `sweep` found after the rounds, and removed.
        unlogged: Those of them that no warning had named.
        checked: Objects that the audits read.
        levels: Memory, tasks and sockets before and after.
    """

    rounds: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    swept: int = 0
    unlogged: int = 0
    checked: int = 0
    levels: tuple[Levels, Levels] | None = None


async def soak(
    rig: PairRig,
    *,
    seconds: float,
    round_seconds: float,
    workers: int,
    seed: int,
    report: Callable[[Figures], None] = lambda _: None,
) -> Figures:
    """Work on one storage for so long, with faults on its connections if it has a server, and audit after each round.

    Args:
        rig: Storage and server. Each audit ends with an empty store.
        seconds: How long to work, without audits.
        round_seconds: Seconds between two audits.
        workers: Operations at a time.
        seed: Seed of the work and the faults.
        report: Called with the figures after each round.
    """
    figures = Figures()
    async with _behind_faults(rig, seed) as (storage, proxy):
        left = seconds
        while left > 0:
            with _warnings() as warnings:
                load = Load(storage, figures.ledger, seed=seed * 1000 + figures.rounds)
                await load.run(min(left, round_seconds), workers=workers)
            left -= round_seconds
            if proxy is not None:
                await proxy.wait_until_idle()
                _count(proxy, figures)
            await _audit(rig, figures, warnings)
            figures.rounds += 1
            report(figures)
    return figures


@asynccontextmanager
async def _behind_faults(rig: PairRig, seed: int) -> AsyncGenerator[tuple[ObjectStorage[Any], FaultProxy | None]]:
    async with AsyncExitStack() as stack:
        if not isinstance(rig, CloudRig):
            yield await stack.enter_async_context(rig.storage()), None
            return
        rules = [
            Rule(fault, operation, times=None, probability=likely)
            for fault, operation, likely in FAULTS
            if not (operation == "put" and isinstance(fault, FlipRequestByte) and STORES_DAMAGE.search(rig.name))
        ]
        proxy = await stack.enter_async_context(FaultProxy(rig.server_url, rules, seed=seed))
        direct = rig.endpoint_url
        rig.point_to(proxy.url)
        storage = rig.storage(read_timeout=READ_TIMEOUT, max_buffered_bytes=8 * rig.part_size)
        rig.endpoint_url = direct
        yield await stack.enter_async_context(storage), proxy


def _count(proxy: FaultProxy, figures: Figures) -> None:
    """Count the exchanges of the proxy, and drop them."""
    figures.requests += len(proxy.exchanges)
    figures.faults.update(type(exchange.fault).__name__ for exchange in proxy.exchanges if exchange.fault)
    proxy.exchanges.clear()


async def _audit(rig: PairRig, figures: Figures, warnings: list[str]) -> None:
    """Find losses, sweep, and leave the store empty."""
    ledger = figures.ledger
    async with rig.storage() as storage:
        async for leftover in sweep(storage, older_than=timedelta(0)):
            figures.swept += 1
            figures.unlogged += not any(leftover.address.key in warning for warning in warnings)
    # An upload whose response was lost can't be found on a store that lists none. Such uploads expire.
    uploads = await rig.uploads() if rig.shows_uploads else []
    ledger.losses += [f"left after sweep: {key}" for key in [*await rig.keys(), *uploads] if _is_left(key)]
    reads = asyncio.Semaphore(AUDIT_READS)

    async def check(key: str) -> None:
        sample = ledger.hashes.get(key)
        async with reads:
            raw = await rig.get(key)
            await rig.delete(key)
        if sample is None or not (sample in ledger.stored or sample in ledger.unsure):
            ledger.losses.append(f"{key} is there, though nobody has written it ({sample})")
        elif raw is None or raw.data != sample.data:
            ledger.losses.append(f"{sample} is not what was written")
        else:
            found.add(sample)

    found: set[object] = set()
    async with asyncio.TaskGroup() as tasks:
        for key in await rig.keys():
            if not _is_left(key):
                tasks.create_task(check(key))
    figures.checked += len(found)
    ledger.losses += [f"{sample} was stored, and is not there" for sample in ledger.stored.keys() - found]
    ledger.forget()


def _is_left(key: str) -> bool:
    return key.startswith(f"{TEMPORARY_FOLDER}/")


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """The warnings of the library."""
    messages: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler, logger = Keep(logging.WARNING), logging.getLogger("lakery_cloud")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
