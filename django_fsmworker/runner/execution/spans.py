"""A span of OpenTelemetry for each attempt: a middleware of the package's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django_fsmworker.exceptions import Pause, TryAgainLater
from django_fsmworker.runner.execution.attempt_info import AttemptInfo
from django_fsmworker.runner.execution.tracing import Tracing, messaging


class Spans:
    """Makes the spans of attempts, each linked to the traces that its rows came from.

    Raises ``ConfigurationError`` where the API of OpenTelemetry is not installed. Without an SDK,
    which the project configures, its spans are recorded nowhere.
    """

    def __init__(self) -> None:
        self._tracing = Tracing()

    @contextmanager
    def around(self, info: AttemptInfo) -> Iterator[None]:
        """A span that is active while the check runs."""
        if not self._tracing.recorded:
            yield
            return
        label = info.model._meta.label
        attributes: dict[str, Any] = {
            **messaging("attempt", "process", label, info.worker),
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
        with self._tracing.active(
            name,
            self._tracing.api.SpanKind.CONSUMER,
            attributes,
            self._tracing.links(traces),
            excused=(TryAgainLater, Pause),  # no failure
        ) as span:
            yield
            if info.target is not None:
                span.set_attribute("fsmworker.target", info.target)
