"""Faults and the rules for when they happen: plain data, that can be kept as JSON. Nothing is sent here."""

import asyncio
import json
import math
import random
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, Self


class FaultNotFired(AssertionError):
    """A rule that had to fire did not, or not as often as it had to: the test did not test what it says."""


@dataclass(frozen=True)
class Fault:
    """What happens to one request. Positions are bytes of a body, from 0; a negative one counts from its end.

    A position of None is any one in the body, drawn from the seed. A body that has no such byte passes as it is, and the
    fault has not fired.
    """


@dataclass(frozen=True)
class Answer(Fault):
    """An answer in place of the server's, which never sees the request.

    The request's body is read first, unless the client waits to be asked for it (`Expect: 100-continue`).

    Attributes:
        status: Status code. 200 with an error in its body is what S3 may say to a copy or a completion.
        code: The provider's error code, such as `SlowDown`. None is the one that the provider most often gives with the
            status.
        message: What it says.
        headers: Headers besides those of the provider's errors, such as `Retry-After`.
        body: The body, if not an error in the provider's own shape.
    """

    status: int
    code: str | None = None
    message: str = "This answer was made by a test."
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    body: str | None = None

    def __post_init__(self) -> None:
        _check(200 <= self.status <= 599, f"no status of an answer: {self.status}")


@dataclass(frozen=True)
class ExpiredCredentials(Fault):
    """What the provider says of credentials that have expired: 400 ExpiredToken on S3, 401 on the other two."""


@dataclass(frozen=True)
class ResetBefore(Fault):
    """The connection is reset when the head of the request has arrived, and before its body is read."""


@dataclass(frozen=True)
class ResetDuring(Fault):
    """The connection is reset when a part of the request's body has been read; the server never sees the request.

    Attributes:
        after_bytes: How many bytes of the body; there must be more of it.
    """

    after_bytes: int | None = None


@dataclass(frozen=True)
class ResetAfter(Fault):
    """The connection is reset when all of the request's body has been read; the server never sees the request."""


@dataclass(frozen=True)
class SwallowAnswer(Fault):
    """The server acts on the request, and the connection is closed before its answer."""


@dataclass(frozen=True)
class CutAnswer(Fault):
    """The connection is closed inside of the answer's body.

    Attributes:
        after_bytes: How many bytes of the body arrive; there must be more of it.
    """

    after_bytes: int | None = None


@dataclass(frozen=True)
class FlipRequestByte(Fault):
    """One byte of the request's body is inverted on its way to the server. The length stays.

    Attributes:
        offset: Which.
    """

    offset: int | None = None


@dataclass(frozen=True)
class FlipAnswerByte(Fault):
    """One byte of the answer's body is inverted on its way to the client. The length stays.

    Attributes:
        offset: Which.
    """

    offset: int | None = None


@dataclass(frozen=True)
class Delay(Fault):
    """Nothing happens for a while before the request is read further and passed on.

    Attributes:
        seconds: How long. None is until the client goes; then the server never sees the request.
    """

    seconds: float | None

    def __post_init__(self) -> None:
        _check_seconds(self.seconds)


@dataclass(frozen=True)
class Stall(Fault):
    """The answer's body stops for a while.

    Attributes:
        after_bytes: How many bytes of the body arrive before that; there must be more of it.
        seconds: How long. None is until the client goes.
    """

    after_bytes: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        _check_seconds(self.seconds)


@dataclass(frozen=True)
class StallRequest(Fault):
    """The request's body is not read further for a while. Small bodies fit into buffers on the way all the same.

    Attributes:
        after_bytes: How many bytes of the body are read before that; there must be more of it.
        seconds: How long. None is until the client goes; then the server never sees the request.
    """

    after_bytes: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        _check_seconds(self.seconds)


@dataclass(frozen=True)
class Throttle(Fault):
    """Both bodies pass slowly.

    Attributes:
        bytes_per_second: How slowly, each.
    """

    bytes_per_second: float

    def __post_init__(self) -> None:
        _check(self.bytes_per_second > 0, f"no rate: {self.bytes_per_second}")


FAULTS: Mapping[str, type[Fault]] = {
    kind.__name__: kind
    for kind in (
        Answer,
        ExpiredCredentials,
        ResetBefore,
        ResetDuring,
        ResetAfter,
        SwallowAnswer,
        CutAnswer,
        FlipRequestByte,
        FlipAnswerByte,
        Delay,
        Stall,
        StallRequest,
        Throttle,
    )
}
"""Every fault by its name in JSON."""


@dataclass(frozen=True)
class Rule:
    """Which requests meet a fault. A request meets one fault at most, that of the first rule which is for it.

    Attributes:
        fault: The fault.
        operation: Only requests of this operation, by the provider's name (`put_object`) or by the one that all clouds
            share (`put`). None is every request.
        nth: Only the nth of the requests that match, from 1, and the `times - 1` after it. An attempt that repeats another
            is a request too. None is any of them.
        times: How many requests meet it. None is no limit.
        probability: How likely each of these is to meet it, from 0 to 1. With 1 it must fire as often as `times` says,
            or once if that is None.
        key: Only requests for a key in which this regular expression is found. Keys are decoded and without the bucket;
            that of a copy is where it goes.

    Raises:
        ValueError: A value is out of its range.
    """

    fault: Fault
    operation: str | None = None
    nth: int | None = None
    times: int | None = 1
    probability: float = 1.0
    key: str | None = None

    def __post_init__(self) -> None:
        _check(isinstance(self.fault, Fault), f"no fault: {self.fault!r}")
        _check(self.nth is None or self.nth >= 1, f"nth counts from 1, not {self.nth}")
        _check(self.times is None or self.times >= 1, f"times is at least 1, not {self.times}")
        _check(0 <= self.probability <= 1, f"no probability: {self.probability}")
        try:
            re.compile(self.key or "")
        except re.error as error:
            raise ValueError(f"key is no regular expression: {error}") from error

    def to_json(self) -> str:
        """The rule as one line of JSON."""
        data = {**asdict(self), "fault": {"kind": type(self.fault).__name__, **asdict(self.fault)}}
        return json.dumps(data)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The rule that `to_json` wrote. What is left out has its default.

        Raises:
            ValueError: It is no rule.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            fault = dict(data.pop("fault"))
            return cls(FAULTS[fault.pop("kind")](**fault), **data)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no rule: {error!r}") from error


class _Recognised(Protocol):
    """What rules know of a request."""

    operation: str
    neutral: str
    key: str


class Armed:
    """A fault that waits for requests.

    Attributes:
        fault: The fault.
        times: How many requests meet it; None is no limit.
        met: How many requests have met it.
        fired: How often it took effect.
        is_stopped: Whether no further request is to meet it.
    """

    def __init__(self, fault: Fault, times: int | None) -> None:
        self.fault = fault
        self.times = times
        self.met = 0
        self.fired = 0
        self.is_stopped = False
        self._has_fired = asyncio.Event()

    @property
    def is_spent(self) -> bool:
        """Whether no further request meets it."""
        return self.is_stopped or (self.times is not None and self.met >= self.times)

    def fire(self) -> None:
        """Note that it took effect."""
        self.fired += 1
        self._has_fired.set()

    async def wait(self) -> None:
        """Wait until it has fired for the first time."""
        await self._has_fired.wait()


class ArmedRule(Armed):
    """A rule that is in force at a proxy.

    Attributes:
        rule: The rule.
        matched: How many requests were of its operation and key.
    """

    def __init__(self, rule: Rule, seed: str) -> None:
        super().__init__(rule.fault, rule.times)
        self.rule = rule
        self.matched = 0
        self._random = random.Random(seed)

    def meet(self, request: _Recognised, *, is_free: bool) -> "Meeting | None":
        """Whether a request meets the fault. Every matching request draws, so the kth one always draws the same.

        Args:
            request: The request.
            is_free: Whether it has not met another fault.
        """
        rule = self.rule
        if rule.operation not in (None, request.operation, request.neutral):
            return None
        if rule.key is not None and not re.search(rule.key, request.key):
            return None
        self.matched += 1
        chance, fraction = self._random.random(), self._random.random()
        if not is_free or self.is_spent or chance >= rule.probability:
            return None
        end = math.inf if rule.nth is None or rule.times is None else rule.nth + rule.times
        if not (rule.nth or 1) <= self.matched < end:
            return None
        self.met += 1
        return Meeting(self, fraction)

    @property
    def is_due(self) -> bool:
        """Whether it had to fire more often than it did."""
        return self.rule.probability == 1 and self.fired < (1 if self.times is None else self.times)

    def __str__(self) -> str:
        due = "at least once" if self.times is None else f"of {self.times}"
        return f"{self.rule}: {self.matched} requests matched, {self.met} met it, it fired {self.fired} {due}"


@dataclass(frozen=True, slots=True)
class Meeting:
    """A request that has met a fault.

    Attributes:
        armed: The fault.
        fraction: From 0 to below 1: where in a body, if the fault leaves that open.
    """

    armed: Armed
    fraction: float = 0.0


def position_in(length: int, offset: int | None, fraction: float) -> int | None:
    """Which byte of a body with so many bytes an offset means; None if there is no such byte."""
    found = int(fraction * length) if offset is None else offset + (length if offset < 0 else 0)
    return found if 0 <= found < length else None


def _check(is_right: bool, message: str) -> None:
    if not is_right:
        raise ValueError(message)


def _check_seconds(seconds: float | None) -> None:
    _check(seconds is None or seconds >= 0, f"no time to wait: {seconds}")
