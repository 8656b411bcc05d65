"""A claimer without a runner around it: claims when it is told to, and settles at once."""

from __future__ import annotations

from typing import Any

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.runner.claiming.claimer import Claimer
from django_fsmworker.runner.database.outages import Outages
from django_fsmworker.runner.work.holdings import Holdings
from django_fsmworker.runner.work.ready import ReadyQueue
from django_fsmworker.runner.work.throughput import Throughput
from django_fsmworker.store import Kind, Lane, Outcome, store_for


class Claiming:
    """Claims rows of ``model``, at most ``room`` at a time, and moves them to ``target``."""

    def __init__(self, model: Any, target: str, room: int, **options: Any) -> None:
        self._model, self._target = model, target
        self._settings = RunnerSettings.load(**options)
        self._store = store_for("default")
        self._holdings = Holdings()
        self._ready = ReadyQueue(None, give_back=lambda attempt: None)
        throughput = Throughput(1, room, self._settings.lease)
        throughput.target = room
        self.claimer = Claimer(
            {model: self._store},
            self._settings,
            self._holdings,
            self._ready,
            dict.fromkeys((False, True), throughput),
            Outages(),
            lambda attempts: None,
        )

    def round(self) -> list[Any]:
        """Claim once and settle what was found; the keys of those rows."""
        self.claimer.claim()
        self.claimer.peek()
        while (attempt := self._ready.take(0)) is not None:
            self._ready.done(attempt)
        attempts = self._holdings.all()
        outcomes = [
            Outcome(
                each.pk, each.row, Kind.MOVED, each.row.state, each.token, self._target, None, None
            )
            for each in attempts
        ]
        if outcomes:
            assert len(self._store.settle(self._model, outcomes)) == len(outcomes)
        self._holdings.remove(attempts)
        return [each.pk for each in attempts]

    def drain(self) -> int:
        """Claim and settle until there is nothing to do; how many rows there were."""
        found = 0
        while self.claimer.seconds_to_wait() == 0:
            found += len(self.round())
        return found

    def next_look(self, state: str, limit: int) -> Lane:
        """The lane as the next claim would look at it."""
        book = self.claimer._books[self._model][state]
        return book.lane(limit, self._settings.lease / 6)
