"""Breakers: a state whose checks mostly fail is paused, and then tried with one row."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django_fsmworker.graph import Breaker
from django_fsmworker.logs import logger_for
from django_fsmworker.models.hints import hint_paused
from django_fsmworker.models.limits import WHOLE_LANE, Pause
from django_fsmworker.store import Ending, Outcome, Store, pauses

logger = logger_for(__name__)

FAILED = (Ending.FAILED, Ending.OVERRAN)
# A window is counted in so many parts.
PARTS = 20

Lane = tuple[Any, str]


@dataclass(slots=True)
class Window:
    """The attempts of one state that ended here within the breaker's window."""

    breaker: Breaker
    parts: deque[list[float]] = field(default_factory=deque)  # since when, attempts, failures

    def count(self, attempts: int, failures: int) -> None:
        """Add what has ended just now."""
        now = time.monotonic()
        if not self.parts or now - self.parts[-1][0] > self.breaker.window / PARTS:
            self.parts.append([now, 0, 0])
        self.parts[-1][1] += attempts
        self.parts[-1][2] += failures
        while now - self.parts[0][0] > self.breaker.window:
            self.parts.popleft()

    @property
    def numbers(self) -> tuple[int, int]:
        """The attempts and the failures."""
        return int(sum(each[1] for each in self.parts)), int(sum(each[2] for each in self.parts))

    @property
    def is_tripped(self) -> bool:
        """Whether so many failed that the state is to be paused."""
        attempts, failures = self.numbers
        return attempts >= self.breaker.least and failures >= attempts * self.breaker.failures


class Breakers:
    """Counts for all states with a breaker; the settler tells, the main loop pauses."""

    def __init__(self, stores: Mapping[Any, Store], worker: str) -> None:
        self._worker = worker
        self._windows: dict[Lane, Window] = {
            (model, name): Window(state.limits.breaker)
            for model in stores
            for name, state in model.state_graph.states.items()
            if state.limits.breaker is not None
        }
        self._tripped: dict[Lane, str] = {}
        self._trials: dict[Lane, tuple[int, Any]] = {}  # the pause, and the row's key once known
        self._ended: dict[Lane, bool] = {}
        self._lock = threading.Lock()

    def note(self, model: Any, outcomes: Iterable[Outcome]) -> None:
        """Count outcomes that are written."""
        if not self._windows:
            return
        with self._lock:
            for outcome in outcomes:
                lane = model, outcome.source
                window = self._windows.get(lane)
                if window is None:
                    continue
                failed = outcome.ending in FAILED
                if lane in self._trials and self._trials[lane][1] == outcome.pk:
                    self._ended[lane] = failed
                    continue
                window.count(1, int(failed))
                if failed and window.is_tripped and lane not in self._trials:
                    attempts, failures = window.numbers
                    self._tripped[lane] = (
                        f"{failures} of {attempts} attempts failed within {window.breaker.window:g}"
                        f" s in one process"
                    )

    def is_to_write(self, model: Any) -> bool:
        """Whether ``write()`` has something to tell the database of this model."""
        return any(lane[0] is model for lane in (*self._tripped, *self._ended))

    def write(self, store: Store, model: Any) -> None:
        """Pause states that tripped; lift or renew the pauses whose trials have ended."""
        for lane, reason in list(self._tripped.items()):
            if lane[0] is model:
                self._open(store, lane, reason)
        for lane, failed in list(self._ended.items()):
            if lane[0] is model:
                self._end_of_trial(store, lane, failed)

    def may_try(self, store: Store, lane: Lane, pause: int, lease: float) -> bool:
        """Take the right to try one row of the lane; False while another row is tried."""
        with self._lock:
            if lane in self._trials:
                return False
        if not pauses.try_one(store.alias, pause, lease):
            return False
        with self._lock:
            self._trials[lane] = pause, None
        return True

    def tries(self, store: Store, lane: Lane, row: Any) -> None:
        """The row that is tried has this key; without one (None) nothing is tried."""
        pause, _ = self._trials[lane]
        if row is None:
            del self._trials[lane]
            pauses.end_trial(store.alias, pause)
        else:
            self._trials[lane] = pause, row

    def renew(self, store: Store, model: Any, lease: float, is_held: Any) -> None:
        """Keep the rights to try rows that are still held here, and give the others back."""
        for lane, (pause, row) in list(self._trials.items()):
            if lane[0] is not model or row is None or lane in self._ended:
                continue
            if is_held(model, row):
                pauses.renew_trial(store.alias, pause, lease)
            else:
                with self._lock:
                    self._trials.pop(lane, None)
                pauses.end_trial(store.alias, pause)

    def _open(self, store: Store, lane: Lane, reason: str) -> None:
        model, state = lane
        window = self._windows[lane]
        pauses.add(
            store.alias,
            model._meta.label,
            state,
            WHOLE_LANE,
            window.breaker.pause_seconds,
            kind=Pause.Kind.BREAKER,
            by=self._worker,
            reason=reason,
        )
        hint_paused(model, store.alias)
        with self._lock:
            self._tripped.pop(lane, None)
            window.parts.clear()
        logger.warning(
            "The breaker of %s in the state %s pauses it for %.0f s: %s.",
            model._meta.label,
            state,
            window.breaker.pause_seconds,
            reason,
            extra={"action": "breaker_opened", "model": model._meta.label, "state": state},
        )

    def _end_of_trial(self, store: Store, lane: Lane, failed: bool) -> None:
        (model, state), (pause, _) = lane, self._trials[lane]
        if failed:
            pauses.begin_anew(store.alias, pause, self._windows[lane].breaker.pause_seconds)
        else:
            pauses.lift_one(store.alias, pause, self._worker)
        hint_paused(model, store.alias)
        with self._lock:
            del self._trials[lane], self._ended[lane]
            self._windows[lane].parts.clear()
        logger.info(
            "The breaker of %s in the state %s tried one row, which %s.",
            model._meta.label,
            state,
            "failed: it is paused again" if failed else "did not fail: it goes on",
            extra={"action": "breaker_tried", "model": model._meta.label, "state": state},
        )
