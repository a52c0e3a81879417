"""Faults, and rules that say which requests get them. Both are data and can be stored as JSON; no I/O happens here."""

import asyncio
import json
import math
import random
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, Self


class FaultNotFired(AssertionError):
    """A required fault did not happen, or not often enough, so the test did not test what it claims."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with one request.

    Positions are offsets in a body; a negative offset counts from the end. None is a random offset, drawn from the seed. If
    the body has no byte at the offset, it passes unchanged and the fault does not fire.
    """


@dataclass(frozen=True)
class Answer(Fault):
    """The proxy responds itself; the server never gets the request.

    The proxy reads the request body first, unless the client expects "100 Continue".

    Attributes:
        status: Status code. S3 may respond 200 with an error in the body to a copy or a completion.
        code: The provider's error code, such as `SlowDown`. None is the code that the provider sends most often with this
            status.
        message: The error message.
        headers: Further headers, such as `Retry-After`.
        body: The body; None is an error in the provider's format.
    """

    status: int
    code: str | None = None
    message: str = "This response was made by a test."
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    body: str | None = None

    def __post_init__(self) -> None:
        _check(200 <= self.status <= 599, f"status must be from 200 to 599, not {self.status}")


@dataclass(frozen=True)
class ExpiredCredentials(Fault):
    """The provider's response to expired credentials: 400 ExpiredToken on S3, 401 on Cloud Storage and Azure."""


@dataclass(frozen=True)
class ResetBefore(Fault):
    """The proxy resets the connection after the request's headers, before it reads the body."""


@dataclass(frozen=True)
class ResetDuring(Fault):
    """The proxy resets the connection in the middle of the request body; the server never gets the request.

    Attributes:
        after_bytes: Bytes of the body that the proxy reads; the body must be longer.
    """

    after_bytes: int | None = None


@dataclass(frozen=True)
class ResetAfter(Fault):
    """The proxy resets the connection after the whole request body; the server never gets the request."""


@dataclass(frozen=True)
class SwallowAnswer(Fault):
    """The server processes the request, and the proxy closes the connection before the response."""


@dataclass(frozen=True)
class CutAnswer(Fault):
    """The proxy closes the connection in the middle of the response body.

    Attributes:
        after_bytes: Bytes of the body that arrive; the body must be longer.
    """

    after_bytes: int | None = None


@dataclass(frozen=True)
class FlipRequestByte(Fault):
    """The proxy inverts one byte of the request body; the length stays the same.

    Attributes:
        offset: Position of the byte.
    """

    offset: int | None = None


@dataclass(frozen=True)
class FlipAnswerByte(Fault):
    """The proxy inverts one byte of the response body; the length stays the same.

    Attributes:
        offset: Position of the byte.
    """

    offset: int | None = None


@dataclass(frozen=True)
class Delay(Fault):
    """The proxy waits before it reads the request body and forwards the request.

    Attributes:
        seconds: How long. None is until the client disconnects; the server never gets the request then.
    """

    seconds: float | None

    def __post_init__(self) -> None:
        _check_seconds(self.seconds)


@dataclass(frozen=True)
class Stall(Fault):
    """The response body pauses.

    Attributes:
        after_bytes: Bytes of the body that arrive before the pause; the body must be longer.
        seconds: How long. None is until the client disconnects.
    """

    after_bytes: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        _check_seconds(self.seconds)


@dataclass(frozen=True)
class StallRequest(Fault):
    """The proxy stops reading the request body for a while. A client notices only if the rest does not fit into buffers.

    Attributes:
        after_bytes: Bytes of the body that the proxy reads before the pause; the body must be longer.
        seconds: How long. None is until the client disconnects; the server never gets the request then.
    """

    after_bytes: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        _check_seconds(self.seconds)


@dataclass(frozen=True)
class Throttle(Fault):
    """The proxy forwards both bodies slowly.

    Attributes:
        bytes_per_second: Rate of each body.
    """

    bytes_per_second: float

    def __post_init__(self) -> None:
        _check(self.bytes_per_second > 0, f"bytes_per_second must be greater than 0, not {self.bytes_per_second}")


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
"""Every fault by its name, which is its `kind` in JSON."""


@dataclass(frozen=True)
class Rule:
    """A fault, and the requests that get it. A request gets at most one fault: that of the first rule that applies.

    Attributes:
        fault: The fault.
        operation: Match only requests of this operation, by the provider's name (`put_object`) or the name shared by all
            clouds (`put`). None matches every request.
        nth: Apply only to the nth matching request, counted from 1, and the `times - 1` after it. A retry counts as a
            request. None applies to any matching request.
        times: How many requests get the fault. None is no limit.
        probability: Probability, from 0 to 1, that a request gets the fault. With 1 the fault must fire `times` times, or
            at least once if `times` is None.
        key: Match only keys in which this regular expression is found. Keys are decoded and don't include the bucket; the
            key of a copy is its target.

    Raises:
        ValueError: A value is out of range.
    """

    fault: Fault
    operation: str | None = None
    nth: int | None = None
    times: int | None = 1
    probability: float = 1.0
    key: str | None = None

    def __post_init__(self) -> None:
        _check(isinstance(self.fault, Fault), f"fault must be a Fault, not {self.fault!r}")
        _check(self.nth is None or self.nth >= 1, f"nth must be at least 1, not {self.nth}")
        _check(self.times is None or self.times >= 1, f"times must be at least 1, not {self.times}")
        _check(0 <= self.probability <= 1, f"probability must be from 0 to 1, not {self.probability}")
        try:
            re.compile(self.key or "")
        except re.error as error:
            raise ValueError(f"key must be a regular expression: {error}") from error

    def to_json(self) -> str:
        """Return the rule as one line of JSON."""
        data = {**asdict(self), "fault": {"kind": type(self.fault).__name__, **asdict(self.fault)}}
        return json.dumps(data)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a rule from JSON. Missing fields have their defaults.

        Raises:
            ValueError: The text is not a rule.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            fault = dict(data.pop("fault"))
            return cls(FAULTS[fault.pop("kind")](**fault), **data)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the text is not a rule: {error!r}") from error


class _Request(Protocol):
    """The properties of a request that rules look at."""

    operation: str
    neutral: str
    key: str


class Armed:
    """A fault that a proxy applies to requests.

    Attributes:
        fault: The fault.
        times: How many requests get the fault; None is no limit.
        met: How many requests got it so far.
        fired: How often it took effect.
        is_stopped: Whether it is disarmed.
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
        """Whether no further request gets the fault."""
        return self.is_stopped or (self.times is not None and self.met >= self.times)

    def fire(self) -> None:
        """Count that the fault took effect."""
        self.fired += 1
        self._has_fired.set()

    async def wait(self) -> None:
        """Wait until the fault has taken effect for the first time."""
        await self._has_fired.wait()


class ArmedRule(Armed):
    """A rule in force at a proxy.

    Attributes:
        rule: The rule.
        matched: How many requests had its operation and key.
    """

    def __init__(self, rule: Rule, seed: str) -> None:
        super().__init__(rule.fault, rule.times)
        self.rule = rule
        self.matched = 0
        self._random = random.Random(seed)

    def match(self, request: _Request, *, has_fault: bool) -> "FaultMatch | None":
        """Decide whether a request gets the fault.

        Every matching request draws a random number, so the nth draw does not depend on other rules.

        Args:
            request: The request.
            has_fault: Whether the request already has another rule's fault.
        """
        rule = self.rule
        if rule.operation not in (None, request.operation, request.neutral):
            return None
        if rule.key is not None and not re.search(rule.key, request.key):
            return None
        self.matched += 1
        chance, fraction = self._random.random(), self._random.random()
        if has_fault or self.is_spent or chance >= rule.probability:
            return None
        end = math.inf if rule.nth is None or rule.times is None else rule.nth + rule.times
        if not (rule.nth or 1) <= self.matched < end:
            return None
        self.met += 1
        return FaultMatch(self, fraction)

    @property
    def is_due(self) -> bool:
        """Whether the fault must still fire."""
        return self.rule.probability == 1 and self.fired < (1 if self.times is None else self.times)

    def __str__(self) -> str:
        due = "at least 1" if self.times is None else str(self.times)
        counts = f"{self.matched} requests matched, {self.met} got the fault, it fired {self.fired} of {due} times"
        return f"{self.rule}: {counts}"


@dataclass(frozen=True, slots=True)
class FaultMatch:
    """The fault of one request.

    Attributes:
        armed: The fault.
        fraction: From 0 to below 1: the relative position in a body, for a fault whose position is None.
    """

    armed: Armed
    fraction: float = 0.0


def position_in(length: int, offset: int | None, fraction: float) -> int | None:
    """Return the offset from the beginning of a body of `length` bytes; None if the body has no such byte."""
    found = int(fraction * length) if offset is None else offset + (length if offset < 0 else 0)
    return found if 0 <= found < length else None


def _check(is_right: bool, message: str) -> None:
    if not is_right:
        raise ValueError(message)


def _check_seconds(seconds: float | None) -> None:
    _check(seconds is None or seconds >= 0, f"seconds must be at least 0, not {seconds}")
