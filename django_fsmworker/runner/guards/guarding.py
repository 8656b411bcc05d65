"""The thread that asks the guards of rows just claimed, before their checks may start."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable

from django.db import DatabaseError, InterfaceError

from django_fsmworker.graph import State
from django_fsmworker.runner.database.backing_off import Backoffs
from django_fsmworker.runner.database.connections import ThreadConnections
from django_fsmworker.runner.database.outages import Outages
from django_fsmworker.runner.guards.deciding import Answer, answers, decided
from django_fsmworker.runner.judging.one import too_early
from django_fsmworker.runner.work.attempt import Attempt
from django_fsmworker.runner.work.batch import Work, attempts_of, together
from django_fsmworker.runner.work.ready import ReadyQueue
from django_fsmworker.store import Outcome, Store

Settle = Callable[[tuple[Attempt, Outcome | None]], None]


class Guarding(threading.Thread):
    """Stands before the queue of rows that are ready, and takes what a claim brings in its place.

    Rows in states with guards are asked about, in one statement a state, on a connection of its
    own: a guard may look at any table, and one that is locked or slow must not hold up the claims
    of other models. Rows that a guard decides go to be settled, all others to their checks.
    """

    def __init__(self, ready: ReadyQueue, settle: Settle, outages: Outages) -> None:
        super().__init__(name="fsmworker-guarding", daemon=True)
        self._ready = ready
        self._settle = settle
        self._inbox: queue.SimpleQueue[list[Work] | None] = queue.SimpleQueue()
        self._asking: list[Work] = []
        self._backoffs = Backoffs(outages)

    def waiting(self, is_async: bool = False) -> int:
        """How many rows of one kind are ready."""
        return self._ready.waiting(is_async)

    def put(self, works: Iterable[Work], is_async: bool = False, level: int | None = None) -> None:
        """As ``ReadyQueue.put()``; rows with guards come there once these are asked."""
        offered = list(works)
        asked = [work for work in offered if work.state.guards]
        if asked:
            self._inbox.put(asked)
            offered = [work for work in offered if not work.state.guards]
        self._ready.put(offered, is_async, level)

    def stop(self, timeout: float) -> None:
        """Ask about no more rows; hand back those without an answer after ``timeout`` seconds."""
        self._inbox.put(None)
        if self.is_alive():
            self.join(timeout)
        for work in [*self._asking, *self._rest()]:
            self._hand_back(attempts_of(work))
        self._inbox.put(None)  # the first may have been among the rest

    def run(self) -> None:
        own = ThreadConnections(beside_pool=True)
        try:
            while (works := self._inbox.get()) is not None:
                self._asking = works
                for (store, state), some in _by_state(works).items():
                    self._ask(store, state, some)
                self._asking = []
        finally:
            own.close()

    def _ask(self, store: Store, state: State, works: list[Work]) -> None:
        backoff = self._backoffs[store.alias]
        now, attempts = time.monotonic(), [each for work in works for each in attempts_of(work)]
        keys = [attempt.pk for attempt in attempts if _in_time(attempt, attempt.age(now))]
        try:
            with backoff.asking(patiently=True):
                found = answers(store, attempts[0].model, state.guards, keys)
            backoff.succeeded()
        except (DatabaseError, InterfaceError) as error:
            backoff.failed(error)
            self._hand_back(attempts)  # nothing was decided
        else:
            for attempt in attempts:
                if attempt.pk in found:
                    self._decide(attempt, found[attempt.pk])
            # Rows of one call stay together, as many as are left of them.
            left = [[a for a in attempts_of(work) if a.pk not in found] for work in works]
            self._ready.put(work for some in left for work in together(some))

    def _decide(self, attempt: Attempt, answer: Answer) -> None:
        age = attempt.age(time.monotonic())
        outcome = decided(attempt.row, attempt.pk, attempt.token, age, answer)
        self._settle((attempt, outcome))

    def _hand_back(self, attempts: list[Attempt]) -> None:
        for attempt in attempts:
            self._settle((attempt, None))

    def _rest(self) -> list[Work]:
        rest: list[Work] = []
        while not self._inbox.empty():
            rest += self._inbox.get() or []
        return rest


def _by_state(works: list[Work]) -> dict[tuple[Store, State], list[Work]]:
    groups: dict[tuple[Store, State], list[Work]] = {}
    for work in works:
        groups.setdefault((work.store, work.state), []).append(work)
    return groups


def _in_time(attempt: Attempt, age: float) -> bool:
    """Whether guards count yet: a swept row may be claimed for its timeout before they do."""
    row, state = attempt.row, attempt.state
    return not too_early(row, state, age) and not (state.swept and age < state.start_after)
