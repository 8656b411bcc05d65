"""Sweeping: moving the rows of states that have guards and no check."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import DatabaseError, InterfaceError, connections

from django_fsmworker.graph import State, Transition
from django_fsmworker.logs import logger_for
from django_fsmworker.runner.announcer import Announcer
from django_fsmworker.runner.counters import Counters
from django_fsmworker.runner.database.connections import ThreadConnections
from django_fsmworker.runner.database.outages import OutageTracker, QueryGuards
from django_fsmworker.runner.execution.attempt_log import AttemptLog
from django_fsmworker.runner.execution.engine_spans import EngineSpans
from django_fsmworker.runner.execution.writing import changes_of, signals_of
from django_fsmworker.runner.guards.schedule import SweepSchedule
from django_fsmworker.runner.guards.sweep import Sweep
from django_fsmworker.runner.main_loop import Duty, Wakeup
from django_fsmworker.store import Ending, Outcome, Store
from django_fsmworker.store.drivers import discard
from django_fsmworker.store.errors import is_refusal

logger = logger_for(__name__)

# Seconds between looks whether the runner is on duty again.
OFF_DUTY_LOOK = 1.0
# Seconds until a paused state is looked at again.
PAUSED_WAIT = 2.0


@dataclass(eq=False, slots=True)
class SweptState:
    """One state of one model that is swept; ``sweep`` is the one under way."""

    store: Store
    model: Any
    state: State
    schedule: SweepSchedule
    sweep: Sweep | None = None


class Sweeper(threading.Thread):
    """A thread that sweeps on a connection of its own; states take turns, window by window.

    ``on_due`` is told of rows that a sweep made due: model, state and seconds; ``wake`` wakes the
    main loop then. States for which ``is_paused`` are left alone.
    """

    def __init__(
        self,
        stores: Mapping[Any, Store],
        counters: Counters,
        outages: OutageTracker,
        worker: str,
        on_due: Callable[[Any, str, float], None],
        wake: Callable[[], None],
        duty: Duty | None = None,
        log: AttemptLog | None = None,
        is_paused: Callable[[Store, Any, str], bool] = lambda store, model, state: False,
        spans: EngineSpans | None = None,
    ) -> None:
        super().__init__(name="fsmworker-sweeping", daemon=True)
        self._counters = counters
        self._worker = worker
        self._on_due = on_due
        self._wake_runner = wake
        self._duty = duty or Duty()
        self._log = log or AttemptLog(worker)
        self._is_paused = is_paused
        self._spans = spans
        self._states = [
            SweptState(store, model, state, SweepSchedule(state.retry_after))
            for model, store in stores.items()
            for state in model.state_graph.states.values()
            if state.swept
        ]
        self._by_state = {(swept.model, swept.state.name): swept for swept in self._states}
        self.models = {swept.model for swept in self._states}
        self._query_guards = QueryGuards(outages)
        self._mismatches = outages.mismatches
        self._announcer = Announcer()
        self._wake = Wakeup()
        self._stopped = False

    def run(self) -> None:
        own = ThreadConnections(beside_pool=True)
        try:
            while not self._stopped:
                self._wake.wait(self._round())
        finally:
            self._announcer.close()
            own.close()

    def stop(self) -> None:
        """End the thread after the window that is under way."""
        self._stopped = True
        self._wake.set()

    def sweep_once(self, stopping: Callable[[], bool]) -> None:
        """Sweep each state once, on the calling thread."""
        try:
            for swept in self._states:
                away = self._query_guards[swept.store.alias]
                while not stopping() and away.retry_at <= time.monotonic():
                    self._step(swept)
                    if swept.sweep is None:
                        break
                    self._wake.wait(swept.schedule.due_at - time.monotonic())
        finally:
            self._announcer.close()

    def hinted(self, model: Any) -> None:
        """Look soon, since rows of ``model`` may have come into a state that is swept."""
        for swept in self._states:
            if swept.model is model:
                swept.schedule.ask()
                self._wake.set()

    def entered(self, model: Any, states: Iterable[str]) -> None:
        """Look soon into those of ``states`` that are swept: rows of ``model`` have come there."""
        for state in states:
            if swept := self._by_state.get((model, state)):
                swept.schedule.ask()
                self._wake.set()

    def settled(self, model: Any, outcomes: list[Outcome]) -> None:
        """Note rows that the settler has written, some of them into states that are swept."""
        if model in self.models:
            self.entered(model, {each.target for each in outcomes if each.moved})

    def _round(self) -> float:
        """Sweep one window of each state that is due; returns the seconds until one is again."""
        for swept in self._states:
            if not self._duty.may_claim(swept.store.alias):
                swept.schedule.rest_until(time.monotonic() + OFF_DUTY_LOOK)
            elif not self._stopped and time.monotonic() >= swept.schedule.due_at:
                self._step(swept)
        return min(swept.schedule.due_at for swept in self._states) - time.monotonic()

    def _step(self, swept: SweptState) -> None:
        """Sweep one window of a state."""
        query_guard = self._query_guards[swept.store.alias]
        if swept.sweep is None:
            swept.schedule.begin()
            swept.sweep = self._sweep(swept)
        began = time.monotonic()
        try:
            with query_guard.asking(without_timeout=True):  # a guard may look at anything
                paused = self._is_paused(swept.store, swept.model, swept.state.name)
                if not paused:
                    swept.sweep.step()
            query_guard.succeeded()
        except (DatabaseError, InterfaceError) as error:
            if is_refusal(error):
                if not self._mismatches.explains(swept.store, swept.model, error):
                    self._say_failed(swept)
                self._give_up(swept)
            else:
                swept.schedule.rest_until(time.monotonic() + query_guard.failed(error))
        except Exception:
            self._say_failed(swept)
            self._give_up(swept)
        else:
            if paused:
                swept.sweep = None
                swept.schedule.rest_until(time.monotonic() + PAUSED_WAIT)
                return
            swept.schedule.worked(time.monotonic() - began)
            if swept.sweep.done:
                self._end(swept)

    def _end(self, swept: SweptState) -> None:
        swept.sweep = None
        swept.schedule.end()

    def _give_up(self, swept: SweptState) -> None:
        """End a sweep whose guard is wrong, or whose error is unknown: no row is to blame."""
        discard(connections[swept.store.alias])
        self._end(swept)

    def _say_failed(self, swept: SweptState) -> None:
        logger.exception(
            "The guards of %r cannot be asked; trying again.",
            swept.state,
            extra={
                "action": "sweep_failed",
                "model": swept.model._meta.label,
                "state": swept.state.name,
            },
        )

    def _sweep(self, swept: SweptState) -> Sweep:
        on_moved, on_failed = partial(self._moved, swept), partial(self._failed, swept)
        return Sweep(
            swept.store, swept.model, swept.state, self._worker, on_moved, on_failed, self._spans
        )

    def _moved(self, swept: SweptState, edge: Transition, keys: set[Any]) -> None:
        """Count and announce rows that a guard has moved."""
        model, target = swept.model, edge.target
        self._counters.add(model, Ending.MOVED, len(keys))
        moved = [(pk, edge.source.name) for pk in keys]
        self._announcer.announce(changes_of(model, moved, target.name, swept.store.alias, "guard"))
        due_in = target.first_due
        if due_in is not None:
            self._expect(model, target.name, due_in)
        self.entered(model, [target.name])

    def _failed(self, swept: SweptState, outcome: Outcome, error: Exception) -> None:
        """Count and announce a row that is written as failed."""
        self._counters.add(swept.model, Ending.FAILED)
        self._log.failed([(None, outcome)])
        self._announcer.announce(signals_of(swept.model, [outcome], swept.store.alias))
        for due_in in (outcome.delay, outcome.timeout):
            if due_in is not None:
                self._expect(swept.model, outcome.target, due_in)

    def _expect(self, model: Any, state: str, due_in: float) -> None:
        self._on_due(model, state, due_in)
        self._wake_runner()
