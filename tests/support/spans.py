"""Spans and metrics that a test looks at, in memory, and without any global provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import Tracer

# What differs from run to run.
TIMES = ("gen_ai.response.time_to_first_chunk",)


class Recorded:
    """What was told to OpenTelemetry."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider(sampler)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider(metric_readers=[self._reader])

    @property
    def options(self) -> dict[str, Any]:
        """What a client takes as `open_telemetry`."""
        return {
            "tracer_provider": self.tracers,
            "meter_provider": self.meters,
            "agent_name": "bot",
        }

    @property
    def tracer(self) -> Tracer:
        """The program's own."""
        return self.tracers.get_tracer("program")

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended, in the order of their beginnings."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def span(self) -> ReadableSpan:
        """The one span."""
        (span,) = self.spans
        return span

    def tree(self) -> list[str]:
        """The spans as lines, each below its parent, with how it ended and what is told of it."""
        lines: list[str] = []

        def add(parent: int | None, depth: int) -> None:
            for span in self.spans:
                above = None if span.parent is None else span.parent.span_id
                if above == parent:
                    lines.append("  " * depth + _line(span))
                    add(span.context.span_id if span.context else None, depth + 1)

        add(None, 0)
        return lines

    def metrics(self) -> dict[str, list[Any]]:
        """The points of each metric, by its name."""
        found: dict[str, list[Any]] = {}
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else []:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found[metric.name] = list(metric.data.data_points)
        return found

    def close(self) -> None:
        self.tracers.shutdown()
        self.meters.shutdown()


_COMMON = ("server.", "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.agent.name")


def _line(span: ReadableSpan) -> str:
    told = {
        name.rpartition(".")[2]: "…" if name in TIMES or name.endswith(".id") else value
        for name, value in sorted((span.attributes or {}).items())
        if not name.startswith(_COMMON)
    }
    ended = f" !{span.status.description}" if not span.status.is_ok else ""
    return f"{span.kind.name} {span.name}{ended} {told}"
