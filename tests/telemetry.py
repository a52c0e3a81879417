"""Exported telemetry, kept in memory. The fixture turns telemetry on without touching the global providers."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lakery_cloud.engine.telemetry import opentelemetry as otel


class Exported:
    """The exported spans and metrics."""

    def __init__(self) -> None:
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        tracing, self._measuring = TracerProvider(), MeterProvider([self._reader])
        tracing.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = tracing.get_tracer("tests")
        self.sink = otel.Sink(self.tracer, self._measuring.get_meter("tests"))

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    def spans_named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == f"lakery_cloud.{name}"]

    def span(self, name: str) -> ReadableSpan:
        """The only span of this name."""
        (span,) = self.spans_named(name)
        return span

    def requests(self) -> list[str]:
        """Names of the requests in the order in which they ended."""
        return [span.name.rpartition(".")[2] for span in self.spans if span.name.startswith("lakery_cloud.request.")]

    def metrics(self) -> dict[str, list[tuple[dict[str, Any], float]]]:
        """Name of the metric -> attributes and sum of its points; for the histogram, how many values."""
        data = self._reader.get_metrics_data()
        found = {}
        for metric in data.resource_metrics[0].scope_metrics[0].metrics if data else ():
            points = [
                (dict(point.attributes), getattr(point, "value", None) or point.count)
                for point in metric.data.data_points
            ]
            found[metric.name] = points
        return found

    def text(self) -> str:
        """All that was exported."""
        return "\n".join([*(span.to_json() for span in self.spans), repr(self._reader.get_metrics_data())])

    def close(self) -> None:
        self._measuring.shutdown()


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[Exported]:
    exported = Exported()
    monkeypatch.setattr(otel, "_sink", exported.sink)
    yield exported
    exported.close()
