"""Spans of OpenTelemetry for what the engine does beside attempts: claims, guards, settling.

Nothing that finds no rows makes one: an idle runner is silent.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.runner.execution.tracing import Tracing, messaging
from django_fsmworker.store import Store


class Claimed:
    """What a claim has found: nothing, until it is said."""

    rows: Sequence[Any] = ()


class Looked:
    """How many rows guards have decided."""

    moved = 0


class EngineSpans:
    """Makes the spans of one runner; None in its place where it makes none.

    While a span of guards or of settling is active, rows that are moved without an attempt keep it
    as their trace.
    """

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._tracing = Tracing()

    @classmethod
    def of(cls, settings: RunnerSettings, worker: str) -> Self | None:
        """The spans of this worker; None unless the settings ask for traces."""
        return cls(worker) if settings.traces else None

    @contextmanager
    def claim(self, store: Store, model: Any) -> Iterator[Claimed]:
        """A span of a claim that has found rows, or failed.

        It is made afterwards, so it is active around nothing.
        """
        claimed, began = Claimed(), time.time_ns()
        try:
            yield claimed
        except BaseException as error:
            if self._tracing.recorded:
                span = self._claim(store, model, claimed.rows, began)
                self._tracing.failed(span, error)
                span.end()
            raise
        if claimed.rows and self._tracing.recorded:
            self._claim(store, model, claimed.rows, began).end()

    def _claim(self, store: Store, model: Any, rows: Sequence[Any], began: int) -> Any:
        label = model._meta.label
        return self._tracing.tracer.start_span(
            f"claim {label}",
            kind=self._tracing.api.SpanKind.CLIENT,
            attributes={
                **messaging("claim", "receive", label, self._worker),
                **self._engine(store, model),
                "messaging.batch.message_count": len(rows),
            },
            links=self._tracing.links(row.__dict__.get("state_trace") for row in rows),
            start_time=began,
        )

    @contextmanager
    def settling(
        self, store: Store, model: Any, traces: Iterable[str], rows: int
    ) -> Iterator[None]:
        """A span in which the outcomes of ``rows`` rows are written, of attempts in ``traces``."""
        if not self._tracing.recorded:
            yield
            return
        label = model._meta.label
        attributes = {
            **messaging("settle", "settle", label, self._worker),
            **self._engine(store, model),
            "messaging.batch.message_count": rows,
        }
        kind, links = self._tracing.api.SpanKind.CLIENT, self._tracing.links(traces)
        with self._tracing.active(f"settle {label}", kind, attributes, links):
            yield

    @contextmanager
    def guards(self, store: Store, model: Any, state: str) -> Iterator[Looked]:
        """A span in which the guards of rows in ``state`` are asked, and in a sweep move them."""
        looked = Looked()
        if not self._tracing.recorded:
            yield looked
            return
        label = model._meta.label
        attributes = {
            **self._engine(store, model),
            "fsmworker.state": state,
            "fsmworker.worker": self._worker,
        }
        kind = self._tracing.api.SpanKind.CLIENT
        with self._tracing.active(f"guards {label} {state}", kind, attributes) as span:
            try:
                yield looked
            finally:
                span.set_attribute("fsmworker.moved", looked.moved)

    @staticmethod
    def _engine(store: Store, model: Any) -> dict[str, Any]:
        """The model, and attributes by the conventions for databases."""
        return {
            "fsmworker.model": model._meta.label,
            "db.system.name": store.connection.display_name.lower(),
            "db.namespace": str(store.connection.settings_dict["NAME"]),
            "db.collection.name": model._meta.db_table,
        }
