"""Reports operations to OpenTelemetry and the log: names, sizes, counts and times. Never content, keys or tags.

Without a provider for OpenTelemetry and without debug logging, it imports nothing and costs almost nothing.
"""

import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, Protocol, Self, TypeVar

from lakery_cloud.engine.model import BodyInterrupted, Signal
from lakery_cloud.engine.telemetry import opentelemetry as otel

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from lakery_cloud.engine.keys import KeySpace

logger = logging.getLogger("lakery_cloud.operations")

P = ParamSpec("P")
R = TypeVar("R")


class Observed(Protocol):
    """The part of a storage that is reported."""

    name: ClassVar[str]
    bucket_attribute: ClassVar[str]
    keys: "KeySpace"


S = TypeVar("S", bound=Observed)


def operation(
    name: str,
) -> Callable[
    [Callable[Concatenate[S, P], Coroutine[Any, Any, R]]], Callable[Concatenate[S, P], Coroutine[Any, Any, R]]
]:
    """Decorate a method of a storage, so that each call is reported as an operation."""

    def decorate(
        method: Callable[Concatenate[S, P], Coroutine[Any, Any, R]],
    ) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
        @wraps(method)
        async def observed(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            if not _is_reported(self):
                return await method(self, *args, **kwargs)
            with Operation(self, name) as observation, observation.current():
                return await method(self, *args, **kwargs)

        return observed

    return decorate


def stream_operation(
    name: str,
) -> Callable[[Callable[Concatenate[S, P], AsyncGenerator[R]]], Callable[Concatenate[S, P], AsyncGenerator[R]]]:
    """As `operation`, for a method that is an asynchronous generator."""

    def decorate(
        method: Callable[Concatenate[S, P], AsyncGenerator[R]],
    ) -> Callable[Concatenate[S, P], AsyncGenerator[R]]:
        @wraps(method)
        def observed(self: S, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[R]:
            items = method(self, *args, **kwargs)
            return _observed_items(self, name, items) if _is_reported(self) else items

        return observed

    return decorate


async def _observed_items(storage: Observed, name: str, items: AsyncGenerator[R]) -> AsyncGenerator[R]:
    nothing: Any = object()
    with Operation(storage, name) as observation:
        async with aclosing(items):
            # The first step takes the client. Between steps the context is the consumer's.
            with observation.current():
                item = await anext(items, nothing)
            if item is nothing:
                return
            yield item
            async for item in items:
                yield item


class Counts:
    """Counts of an operation or a request so far.

    Attributes:
        sent: Bytes of content sent.
        received: Bytes of content received.
        resent: Retries of requests.
    """

    def __init__(self) -> None:
        self.sent = self.received = self.resent = 0


class Operation(Counts):
    """One call of a storage's method.

    Attributes:
        storage: The storage.
        bucket: The bucket of the last request.
        is_under_way: Whether it has taken the storage's client.
        requests: Requests begun.
        interruptions: Bodies that broke off.
        found: Bytes of the object that the last look-up found.
        deduplicated: Bytes that were stored already, once it has ended.
        has_created: Whether it made a content key.
    """

    def __init__(self, storage: Observed, name: str) -> None:
        super().__init__()
        self.storage = storage
        self.name = name
        self.bucket = storage.keys.bucket
        self.is_under_way = False
        self.requests = self.interruptions = 0
        self.found = self.deduplicated = 0
        self.has_created = False
        self._sink = otel.sink()
        self._span: Span | None = None
        self._start = 0.0

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        if self._sink is not None:
            self._span = self._sink.start(f"lakery_cloud.{self.name}", self._named(self.bucket), parent=None)
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        seconds = time.perf_counter() - self._start
        failure = _failure(error)
        self.deduplicated = self._deduplicated(error)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug(
                "%s of %s in %r: %d bytes sent, %d received, %d deduplicated, %d requests, %d retries, "
                "%d interruptions, %.3f s%s",
                *(self.name, self.storage.name, self.bucket, self.sent, self.received, self.deduplicated),
                *(self.requests, self.resent, self.interruptions, seconds, f", {failure}" if failure else ""),
            )
        if self._sink is not None and self._span is not None:
            # The storage's own bucket: untrusted records must not create more and more time series.
            named = self._named(self.storage.keys.bucket)
            self._sink.count(self, named, seconds=seconds, failure=failure)
            self._span.set_attributes(
                {
                    "lakery_cloud.sent": self.sent,
                    "lakery_cloud.received": self.received,
                    "lakery_cloud.requests": self.requests,
                    "lakery_cloud.resent": self.resent,
                    "lakery_cloud.interruptions": self.interruptions,
                    "lakery_cloud.deduplicated": self.deduplicated,
                    **self._named(self.bucket),
                }
            )
            self._sink.end(self._span, failure)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make this the current operation, for the code below."""
        token = _current.set(self)
        try:
            with otel.active(self._sink, self._span):
                yield
        finally:
            _current.reset(token)

    def request(self, name: str, bucket: str) -> "Request":
        """Begin a request of this operation."""
        self.requests += 1
        self.bucket = bucket
        attributes = {**self._named(bucket), "lakery_cloud.request": name}
        span = None
        if self._sink is not None:
            span = self._sink.start(f"lakery_cloud.request.{name}", attributes, parent=self._span)
        return Request(self, self._sink, span)

    def _named(self, bucket: str) -> dict[str, Any]:
        return {
            "lakery_cloud.operation": self.name,
            "lakery_cloud.storage": self.storage.name,
            "lakery_cloud.bucket": bucket,
            self.storage.bucket_attribute: bucket,
        }

    def _deduplicated(self, error: BaseException | None) -> int:
        """Bytes that were stored already."""
        is_save = error is None and self.name in ("write", "write_stream", "find")
        return self.found if is_save and not self.has_created else 0


class Request(Counts):
    """One request of an operation, with its retries. Its context manager reports it at the end."""

    def __init__(self, operation: Operation, sink: "otel.Sink | None", span: "Span | None") -> None:
        super().__init__()
        self.operation = operation
        self._sink = sink
        self._span = span

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make this the current request."""
        token = _request.set(self)
        try:
            with otel.active(self._sink, self._span):
                yield
        finally:
            _request.reset(token)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        whole = self.operation
        whole.sent += self.sent
        whole.received += self.received
        whole.resent += self.resent
        whole.interruptions += isinstance(error, BodyInterrupted)
        if self._span is not None and self._sink is not None:
            self._span.set_attributes({"lakery_cloud.sent": self.sent, "lakery_cloud.received": self.received})
            if self.resent:
                self._span.set_attribute("http.request.resend_count", self.resent)
            if isinstance(error, Signal):
                self._span.set_attribute("lakery_cloud.answer", type(error).__name__)
            self._sink.end(self._span, _failure(error))


def current_operation(storage: object) -> Operation | None:
    """The operation of this storage that takes its client now; None if it is not reported."""
    found = _current.get()
    if found is None or found.storage is not storage or found.is_under_way:
        return None
    found.is_under_way = True
    return found


def note_retries(count: int = 1) -> None:
    """Note that the current request is sent again."""
    request = _request.get()
    if request is not None:
        request.resent += count


_current: ContextVar[Operation | None] = ContextVar("lakery_cloud_operation", default=None)
_request: ContextVar[Request | None] = ContextVar("lakery_cloud_request", default=None)


def _is_reported(storage: object) -> bool:
    """Whether a call is an operation of its own, and somebody listens."""
    if otel.sink() is None and not logger.isEnabledFor(logging.DEBUG):
        return False
    around = _current.get()
    # A method that begins by calling another one of the same storage is one operation with it.
    return around is None or around.storage is not storage or around.is_under_way


def _failure(error: BaseException | None) -> str | None:
    """The kind of an error. Its message may contain keys, which are hashes of content."""
    if error is None or isinstance(error, Signal | GeneratorExit):
        return None
    return type(error).__qualname__
