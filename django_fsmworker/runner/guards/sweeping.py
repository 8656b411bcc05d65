"""The thread that sweeps: it moves the rows of states that have guards and no check."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import DatabaseError, InterfaceError, connections

from django_fsmworker.graph import State, Transition
from django_fsmworker.models.announcing import announce_moved
from django_fsmworker.runner.counters import FAILED, MOVED, Counters
from django_fsmworker.runner.database.connections import ThreadConnections, discard
from django_fsmworker.runner.database.outages import Outages
from django_fsmworker.runner.guards.sweep import Sweep
from django_fsmworker.runner.guards.sweep_times import SweepTimes
from django_fsmworker.runner.settling.writing import log_failures, tell
from django_fsmworker.runner.wakeup import Wakeup
from django_fsmworker.store import Outcome, Store
from django_fsmworker.store.errors import is_refusal

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Place:
    """One state of one model that is swept; ``sweep`` is what is under way."""

    store: Store
    model: Any
    state: State
    times: SweepTimes
    sweep: Sweep | None = None


class Sweeping(threading.Thread):
    """On a connection of its own; the states take turns, window by window."""

    def __init__(
        self,
        stores: Mapping[Any, Store],
        counters: Counters,
        outages: Outages,
        worker: str,
        on_due: Callable[[Any, str, float], None],
    ) -> None:
        super().__init__(name="fsmworker-sweeping", daemon=True)
        self._counters = counters
        self._worker = worker
        self._on_due = on_due
        self._places = [
            Place(store, model, state, SweepTimes(state.retry_after))
            for model, store in stores.items()
            for state in model.state_graph.states.values()
            if state.swept
        ]
        self._by_state = {(place.model, place.state.name): place for place in self._places}
        self.models = {place.model for place in self._places}
        aliases = {place.store.alias for place in self._places}
        self._backoffs = {alias: outages.backoff(alias) for alias in aliases}
        self._wake = Wakeup()
        self._stopped = False

    def run(self) -> None:
        own = ThreadConnections(beside_pool=True)
        try:
            while not self._stopped:
                self._wake.wait(self._round())
        finally:
            own.close()

    def stop(self) -> None:
        """End the thread after the window that it looks at."""
        self._stopped = True
        self._wake.set()

    def sweep_once(self, stopping: Callable[[], bool]) -> None:
        """Sweep each state once, on the calling thread."""
        for place in self._places:
            away = self._backoffs[place.store.alias]
            while not stopping() and away.retry_at <= time.monotonic():
                self._step(place)
                if place.sweep is None:
                    break
                self._wake.wait(place.times.due_at - time.monotonic())

    def hinted(self, model: Any) -> None:
        """Rows of ``model`` may have come into a state that is swept: look soon."""
        for place in self._places:
            if place.model is model:
                place.times.ask()
                self._wake.set()

    def entered(self, model: Any, states: Iterable[str]) -> None:
        """Rows of ``model`` have come into these states."""
        for state in states:
            if place := self._by_state.get((model, state)):
                place.times.ask()
                self._wake.set()

    def _round(self) -> float:
        """One window of each state that is due; returns the seconds until one is again."""
        for place in self._places:
            if not self._stopped and time.monotonic() >= place.times.due_at:
                self._step(place)
        return min(place.times.due_at for place in self._places) - time.monotonic()

    def _step(self, place: Place) -> None:
        """Sweep one window of a state."""
        backoff = self._backoffs[place.store.alias]
        if place.sweep is None:
            place.times.begin()
            place.sweep = self._sweep(place)
        began = time.monotonic()
        try:
            with backoff.asking(patiently=True):  # a guard may look at anything
                place.sweep.step()
            backoff.succeeded()
        except (DatabaseError, InterfaceError) as error:
            if is_refusal(error):
                self._give_up(place)
            else:
                place.times.rest_until(time.monotonic() + backoff.failed(error))
        except Exception:
            self._give_up(place)
        else:
            place.times.worked(time.monotonic() - began)
            if place.sweep.done:
                self._end(place)

    def _end(self, place: Place) -> None:
        place.sweep = None
        place.times.end()

    def _give_up(self, place: Place) -> None:
        """The guard itself is wrong, or something unheard of: no row is to blame."""
        logger.exception(
            "The guards of %r cannot be asked; trying again.",
            place.state,
            extra={
                "action": "sweep_failed",
                "model": place.model._meta.label,
                "state": place.state.name,
            },
        )
        discard(connections[place.store.alias])
        self._end(place)

    def _sweep(self, place: Place) -> Sweep:
        on_moved, on_failed = partial(self._moved, place), partial(self._failed, place)
        return Sweep(place.store, place.model, place.state, self._worker, on_moved, on_failed)

    def _moved(self, place: Place, edge: Transition, keys: set[Any]) -> None:
        """These rows are written."""
        model, target = place.model, edge.target
        self._counters.add(model, MOVED, len(keys))
        moved = [(pk, edge.source.name) for pk in keys]
        self._told(lambda: announce_moved(model, moved, target.name, place.store.alias, "guard"))
        due_in = target.first_due
        if due_in is not None:
            self._on_due(model, target.name, due_in)
        self.entered(model, [target.name])

    def _failed(self, place: Place, outcome: Outcome, error: Exception) -> None:
        """This row is written as failed."""
        self._counters.add(place.model, FAILED)
        log_failures(place.model, [outcome])
        self._told(lambda: tell(place.model, [outcome], place.store.alias))
        for due_in in (outcome.delay, outcome.timeout):
            if due_in is not None:
                self._on_due(place.model, outcome.target, due_in)

    def _told(self, tell: Callable[[], None]) -> None:
        try:
            tell()
        except (Exception, SystemExit):  # Django catches what receivers raise, but not the latter
            logger.exception("A signal's receiver failed.", extra={"action": "receiver"})
