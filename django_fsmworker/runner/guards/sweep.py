"""One sweep: each row of a state without a check is looked at, and moved if a guard is true."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django_fsmworker.graph import State, Transition
from django_fsmworker.logs import logger_for
from django_fsmworker.models.fields import present_columns
from django_fsmworker.runner.execution.engine_spans import EngineSpans
from django_fsmworker.runner.execution.outcomes import OutcomeBuilder
from django_fsmworker.runner.execution.writing import waking_events, write_or_fail
from django_fsmworker.runner.in_flight.log_fields import row_fields
from django_fsmworker.store import Outcome, Store
from django_fsmworker.store.errors import blames_statement, is_contention, is_outage
from django_fsmworker.store.failures import Failure
from django_fsmworker.store.sweeps import Window, movable, next_window, rows_in

logger = logger_for(__name__)

WINDOW_ROWS = 5000


class Sweep:
    """Goes through the rows in the order of their keys, some thousand at each ``step()``.

    Where a guard fails in the database, the window is halved until the row to blame stands alone.
    That has failed like a row whose check raised: it is claimed again after its backoff, and sweeps
    leave it out until then.
    """

    def __init__(
        self,
        store: Store,
        model: Any,
        state: State,
        worker: str,
        on_moved: Callable[[Transition, set[Any]], None],
        on_failed: Callable[[Outcome, Exception], None],
        spans: EngineSpans | None = None,
    ) -> None:
        self._store = store
        self._rows = rows_in(model, state, store.alias)
        self._model, self._state = model, state
        self._worker = worker
        self._on_moved, self._on_failed = on_moved, on_failed
        self._spans = spans
        self._windows: list[Window] = []
        self._after: Any = None
        self._has_more = True

    @property
    def done(self) -> bool:
        """Whether nothing is left to look at."""
        return not (self._windows or self._has_more)

    def step(self) -> None:
        """Look at one window. Raises what is no row's fault; then the window is looked at again."""
        if not self._windows:
            self._next_window()
        if not self._windows:
            return
        window = self._windows[-1]
        try:
            if self._spans is None:
                self._move(window)
            else:
                with self._spans.guards(self._store, self._model, self._state.name) as looked:
                    looked.moved = self._move(window)
        except Exception as error:
            if is_outage(error) or is_contention(error) or blames_statement(error):
                raise
            self._windows.pop()
            self._split(window, error)
        else:
            self._windows.pop()

    def _next_window(self) -> None:
        window = next_window(self._store, self._rows, self._after, WINDOW_ROWS)
        self._has_more = window is not None and not window.last
        if window is not None:
            self._after = window.upto
            self._windows.append(window)

    def _move(self, window: Window) -> int:
        """Move the window's rows whose guards are true; returns their number."""
        moved = 0
        for edge in self._state.guards:
            with self._store.inside():
                rows = movable(window.of(self._rows), edge)
                sweep = partial(self._store.sweep, rows, edge.target, self._worker)
                keys = waking_events(self._store, self._model, sweep)
            if keys:
                self._on_moved(edge, keys)
                moved += len(keys)
        return moved

    def _split(self, window: Window, error: Exception) -> None:
        halves = window.halves(self._store, self._rows)
        self._windows += reversed(halves)
        if not halves:
            self._fail(window.upto, error)

    def _fail(self, key: Any, error: Exception) -> None:
        """The row is failed where it is, or goes where the graph says."""
        row = self._rows.filter(pk=key).only(*present_columns(self._model)).first()
        if row is None:
            return
        age = (self._store.now() - row.state_changed).total_seconds()
        outcome = OutcomeBuilder.of_row(row).failed(Failure.of(error), age)
        written = write_or_fail(self._store, self._model, [outcome], self._worker)
        if written.keys:
            self._on_failed(written.replaced.get(outcome.pk, outcome), error)
        if written.unwritable:
            logger.error(
                "The database refuses every write to %s %s; its guards are asked again in the next "
                "sweep.",
                self._model._meta.label,
                key,
                extra={
                    "action": "refused",
                    **row_fields([row], key, self._state.name, self._worker),
                },
            )
