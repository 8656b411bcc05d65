"""What OpenTelemetry's SDK is given, in the memory of the test's process."""

from __future__ import annotations

from functools import cache
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

EXPORTER = InMemorySpanExporter()


@cache
def provide() -> None:
    """The SDK takes one provider in a process's life; without it spans are recorded nowhere."""
    own = TracerProvider()
    own.add_span_processor(SimpleSpanProcessor(EXPORTER))
    trace.set_tracer_provider(own)


def forget() -> None:
    """Provide, and have no spans of earlier tests."""
    provide()
    EXPORTER.clear()


def request() -> Any:
    """A span that is active while a request is served."""
    return trace.get_tracer("tests").start_as_current_span("request")


def attempts() -> list[ReadableSpan]:
    return [each for each in EXPORTER.get_finished_spans() if each.kind is SpanKind.CONSUMER]


def engine() -> list[ReadableSpan]:
    """Those of claims, guards and settling."""
    return [each for each in EXPORTER.get_finished_spans() if each.kind is SpanKind.CLIENT]


def named(name: str) -> list[ReadableSpan]:
    return [each for each in EXPORTER.get_finished_spans() if each.name == name]


def traceparent(span: Any) -> str:
    context = span.get_span_context()
    flags = int(context.trace_flags)
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"


def linked(span: ReadableSpan) -> list[str]:
    """The ids of the traces to which the span is linked."""
    return [f"{each.context.trace_id:032x}" for each in span.links]
