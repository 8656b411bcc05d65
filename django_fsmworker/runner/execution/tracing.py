"""OpenTelemetry's API, as far as the runner asks for it: a tracer, links, errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import django_fsmworker
from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.traces import is_trace

# Of a batch; the SDK keeps no more by default.
MOST_LINKS = 128


class Tracing:
    """What makes spans. Raises ``ConfigurationError`` where the API is not installed."""

    def __init__(self) -> None:
        try:
            from opentelemetry import trace
        except ImportError as error:
            raise ConfigurationError(
                "traces need the package opentelemetry-api: install django-fsmworker[otel]."
            ) from error
        self.api: Any = trace
        self.tracer = trace.get_tracer("django_fsmworker", django_fsmworker.__version__)
        self._has_provider = False

    @property
    def recorded(self) -> bool:
        """Whether the project has set a provider: without one no span is worth its attributes."""
        if not self._has_provider:
            provider = self.api.get_tracer_provider()
            self._has_provider = not isinstance(provider, self.api.ProxyTracerProvider)
        return self._has_provider

    @contextmanager
    def active(
        self,
        name: str,
        kind: Any,
        attributes: dict[str, Any],
        links: Sequence[Any] = (),
        excused: tuple[type[BaseException], ...] = (),
    ) -> Iterator[Any]:
        """A span that is active meanwhile, and tells what ended it, unless that is ``excused``."""
        with self.tracer.start_as_current_span(
            name,
            kind=kind,
            attributes=attributes,
            links=links,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except excused:
                raise
            except BaseException as error:
                self.failed(span, error)
                raise

    def failed(self, span: Any, error: BaseException) -> None:
        """Record that what the span is about ended in ``error``."""
        span.record_exception(error)
        span.set_attribute("error.type", f"{type(error).__module__}.{type(error).__qualname__}")
        span.set_status(self.api.Status(self.api.StatusCode.ERROR, type(error).__name__))

    def links(self, traces: Iterable[Any]) -> list[Any]:
        """A link to each of these traces, as far as they are any."""
        found = [each for each in dict.fromkeys(traces) if is_trace(each)]
        return [self.api.Link(self._context(each)) for each in found[:MOST_LINKS]]

    def _context(self, traceparent: str) -> Any:
        _, trace_id, span_id, flags = traceparent.split("-")
        return self.api.SpanContext(
            int(trace_id, 16),
            int(span_id, 16),
            is_remote=True,
            trace_flags=self.api.TraceFlags(int(flags, 16)),
        )


def messaging(operation: str, kind: str, label: str, worker: str) -> dict[str, Any]:
    """Attributes by OpenTelemetry's conventions for messaging systems.

    The model is the destination. ``kind`` is theirs: receive, process or settle.
    """
    return {
        "messaging.system": "fsmworker",
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": label,
        "messaging.client.id": worker,
    }
