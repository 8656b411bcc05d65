"""A claimer without a runner around it: claims when it is told to, and settles at once."""

from __future__ import annotations

from typing import Any

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.runner.claiming.claimer import Claimer, Intake
from django_fsmworker.runner.claiming.lanes import Capacity, LaneBook, Prefetch
from django_fsmworker.runner.claiming.limiter import Limiter
from django_fsmworker.runner.database.outages import OutageTracker
from django_fsmworker.runner.in_flight.attempts import InFlight
from django_fsmworker.runner.in_flight.queues import ReadyQueue
from django_fsmworker.runner.main_loop import Duty
from django_fsmworker.store import Ending, Lane, Outcome, store_for


class LoneClaimer:
    """Claims rows of ``model``, at most ``room`` at a time, and moves them to ``target``."""

    def __init__(self, model: Any, target: str, room: int, **options: Any) -> None:
        self._model, self._target = model, target
        self._settings = RunnerSettings.load(**options)
        self._store = store_for("default")
        self._in_flight = InFlight()
        self.duty = Duty()
        self._ready = ReadyQueue(None, give_back=lambda attempt: None)
        prefetch = Prefetch(1, room, self._settings.lease)
        prefetch.target = room
        both = dict.fromkeys((False, True), prefetch)
        self.claimer = Claimer(
            {model: self._store},
            self._settings,
            Capacity(self._settings, self._in_flight, self._ready, both),
            Intake(self._in_flight, self._ready, lambda attempts: None),
            OutageTracker(),
            Limiter({model: self._store}, self._settings, self._in_flight, list, "alone"),
            self.duty,
        )

    def round(self) -> list[Any]:
        """Claim once and settle what was found; the keys of those rows."""
        self.claimer.claim()
        self.claimer.peek()
        while (attempt := self._ready.take(0)) is not None:
            self._ready.done(attempt)
        attempts = self._in_flight.all()
        outcomes = [
            Outcome(
                each.pk,
                each.row,
                Ending.MOVED,
                each.row.state,
                each.token,
                self._target,
                None,
                None,
            )
            for each in attempts
        ]
        if outcomes:
            assert len(self._store.settle(self._model, outcomes)) == len(outcomes)
        self._in_flight.remove(attempts)
        return [each.pk for each in attempts]

    def drain(self) -> int:
        """Claim and settle until there is nothing to do; how many rows there were."""
        found = 0
        while self.claimer.seconds_to_wait() == 0:
            found += len(self.round())
        return found

    def next_look(self, state: str, limit: int) -> Lane:
        """The lane as the next claim would look at it."""
        return self.book(state).lane(limit, self._settings.lease / 6)

    def book(self, state: str) -> LaneBook:
        """What it knows about the lane."""
        return self.claimer.lanes.book(self._model, state)
