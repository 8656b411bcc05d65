"""A span of OpenTelemetry for each attempt: a middleware of the package's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import django_fsmworker
from django_fsmworker.exceptions import ConfigurationError, Pause, TryAgainLater
from django_fsmworker.runner.execution.attempt_info import AttemptInfo
from django_fsmworker.traces import is_trace

# Of a batch; the SDK keeps no more by default.
MOST_LINKS = 128


class Spans:
    """Makes the spans of attempts, each linked to the traces that its rows came from.

    Raises ``ConfigurationError`` where the API of OpenTelemetry is not installed. Without an SDK,
    which the project configures, its spans are recorded nowhere.
    """

    def __init__(self) -> None:
        try:
            from opentelemetry import trace
        except ImportError as error:
            raise ConfigurationError(
                "traces need the package opentelemetry-api: install django-fsmworker[otel]."
            ) from error
        self._api: Any = trace
        self._tracer = trace.get_tracer("django_fsmworker", django_fsmworker.__version__)

    @contextmanager
    def around(self, info: AttemptInfo) -> Iterator[None]:
        """A span that is active while the check runs."""
        label = info.model._meta.label
        attributes: dict[str, Any] = {
            "fsmworker.model": label,
            "fsmworker.state": info.state,
            "fsmworker.attempt": info.attempt,
            "fsmworker.worker": info.worker,
            "fsmworker.rows": len(info.rows),
        }
        if len(info.rows) == 1:
            attributes["fsmworker.pk"] = str(info.row.pk)
        traces = [row.__dict__.get("state_trace") for row in info.rows]
        name = f"{label} {info.state}"
        if info.event is not None:
            name = f"{label} {info.event.trigger}"
            attributes["fsmworker.event"] = info.event.trigger
            traces.insert(0, info.event.trace)
        with self._tracer.start_as_current_span(
            name,
            kind=self._api.SpanKind.CONSUMER,
            attributes=attributes,
            links=self.links(traces),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except (TryAgainLater, Pause):  # no failure
                raise
            except BaseException as error:
                span.record_exception(error)
                span.set_status(self._api.Status(self._api.StatusCode.ERROR, type(error).__name__))
                raise
            if info.target is not None:
                span.set_attribute("fsmworker.target", info.target)

    def links(self, traces: Iterable[Any]) -> list[Any]:
        """A link to each of these traces, as far as they are any."""
        found = [each for each in dict.fromkeys(traces) if is_trace(each)]
        return [self._api.Link(self._context(each)) for each in found[:MOST_LINKS]]

    def _context(self, traceparent: str) -> Any:
        _, trace_id, span_id, flags = traceparent.split("-")
        return self._api.SpanContext(
            int(trace_id, 16),
            int(span_id, 16),
            is_remote=True,
            trace_flags=self._api.TraceFlags(int(flags, 16)),
        )
