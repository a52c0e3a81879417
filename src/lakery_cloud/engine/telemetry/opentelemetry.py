"""OpenTelemetry: spans, instruments, and whether the program has set a provider for them."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter
    from opentelemetry.trace import Span, Tracer


class Totals(Protocol):
    """The counts of an operation that has ended; see `Operation`."""

    sent: int
    received: int
    deduplicated: int
    requests: int
    resent: int
    interruptions: int


class Sink:
    """A tracer, and the instruments of a meter."""

    def __init__(self, tracer: "Tracer", meter: "Meter") -> None:
        from opentelemetry import trace

        self._trace = trace
        self._tracer = tracer
        self._duration = meter.create_histogram(
            "lakery_cloud.operation.duration", unit="s", description="Duration of operations."
        )
        self._io = meter.create_counter("lakery_cloud.io", unit="By", description="Content transferred.")
        self._deduplicated = meter.create_counter(
            "lakery_cloud.deduplicated", unit="By", description="Content that was stored already."
        )
        self._requests = meter.create_counter("lakery_cloud.requests", unit="{request}", description="Requests.")
        self._resent = meter.create_counter("lakery_cloud.resent", unit="{request}", description="Retries of requests.")
        self._interruptions = meter.create_counter(
            "lakery_cloud.interruptions", unit="{interruption}", description="Responses that broke off."
        )

    def start(self, name: str, attributes: Mapping[str, Any], *, parent: "Span | None") -> "Span":
        """Start a span; without a parent it is a child of the current one."""
        context = None if parent is None else self._trace.set_span_in_context(parent)
        kind = self._trace.SpanKind.INTERNAL if parent is None else self._trace.SpanKind.CLIENT
        return self._tracer.start_span(name, context=context, kind=kind, attributes=attributes)

    def active(self, span: "Span") -> Any:
        """A context in which the span is current. It records no errors, since their messages contain keys."""
        return self._trace.use_span(span, record_exception=False, set_status_on_exception=False)

    def end(self, span: "Span", failure: str | None) -> None:
        """End a span."""
        if failure is not None:
            span.set_attribute("error.type", failure)
            span.set_status(self._trace.StatusCode.ERROR)
        span.end()

    def count(self, totals: Totals, named: Mapping[str, Any], *, seconds: float, failure: str | None) -> None:
        """Add an operation to the instruments."""
        self._duration.record(seconds, {**named, **({"error.type": failure} if failure else {})})
        for counter, count, more in (
            (self._io, totals.sent, {"network.io.direction": "transmit"}),
            (self._io, totals.received, {"network.io.direction": "receive"}),
            (self._deduplicated, totals.deduplicated, {}),
            (self._requests, totals.requests, {}),
            (self._resent, totals.resent, {}),
            (self._interruptions, totals.interruptions, {}),
        ):
            if count:
                counter.add(count, {**named, **more})


SCOPE = "lakery_cloud"
_APIS = {"opentelemetry.trace", "opentelemetry.metrics"}

LOOK_AGAIN = 1.0
"""Seconds between looks for a provider: looking costs more than an operation in memory."""

_sink: Sink | None = None
_next_look = 0.0


def sink() -> Sink | None:
    """OpenTelemetry, as soon as the program has set a provider."""
    global _sink, _next_look  # noqa: PLW0603, as providers are global
    if _sink is not None or time.monotonic() < _next_look:
        return _sink
    _next_look = time.monotonic() + LOOK_AGAIN
    if not _APIS.isdisjoint(sys.modules):  # else no provider can be set
        from opentelemetry import metrics, trace

        if _is_set(trace.get_tracer_provider()) or _is_set(metrics.get_meter_provider()):
            _sink = Sink(trace.get_tracer(SCOPE), metrics.get_meter(SCOPE))
    return _sink


def _is_set(provider: object) -> bool:
    """Whether a provider is not one of the API's own, which do nothing."""
    return not type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics"))


@contextmanager
def active(sink: Sink | None, span: "Span | None") -> Iterator[None]:
    """A context in which a span, if any, is current."""
    if sink is None or span is None:
        yield
        return
    with sink.active(span):
        yield
