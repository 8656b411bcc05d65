"""Evaluating the guards of rows just claimed, before their checks may start."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable
from typing import Any

from django.db import DatabaseError, InterfaceError

from django_fsmworker.graph import State
from django_fsmworker.runner.database.connections import ThreadConnections
from django_fsmworker.runner.database.outages import OutageTracker, QueryGuards
from django_fsmworker.runner.execution.ages import outlived, too_early
from django_fsmworker.runner.execution.engine_spans import EngineSpans
from django_fsmworker.runner.execution.guards import Decision, decisions
from django_fsmworker.runner.execution.outcomes import OutcomeBuilder
from django_fsmworker.runner.in_flight.attempts import Attempt, Work, attempts_of, together
from django_fsmworker.runner.in_flight.queues import ResultQueue, WorkQueue
from django_fsmworker.runner.in_flight.shares import Most
from django_fsmworker.store import Store
from django_fsmworker.store.errors import is_refusal
from django_fsmworker.traces import current_trace


class GuardEvaluator(threading.Thread):
    """A thread that stands before the ready queue, and takes claimed rows in its place.

    Guards are evaluated in one statement a state, on a connection of its own: a guard may look at
    any table, and one that is locked or slow must not hold up the claims of other models. Rows that
    a guard decides go to the settler, all others to the ready queue.
    """

    def __init__(
        self,
        ready: WorkQueue,
        results: ResultQueue,
        outages: OutageTracker,
        spans: EngineSpans | None = None,
    ) -> None:
        super().__init__(name="fsmworker-guarding", daemon=True)
        self._ready = ready
        self._results = results
        self._inbox: queue.SimpleQueue[list[Work] | None] = queue.SimpleQueue()
        self._asking: list[Work] = []
        self._query_guards = QueryGuards(outages)
        self._mismatches = outages.mismatches
        self._stopped = threading.Event()
        self._spans = spans

    def waiting(self, is_async: bool = False) -> int:
        """The number of calls, of sync or of async checks, that are ready and not yet started."""
        return self._ready.waiting(is_async)

    def put(self, works: Iterable[Work], is_async: bool = False, level: int | None = None) -> None:
        """Offer rows; those with guards come to the ready queue once these are evaluated."""
        offered = list(works)
        asked = [work for work in offered if work.state.guards]
        if asked:
            self._inbox.put(asked)
            offered = [work for work in offered if not work.state.guards]
        self._ready.put(offered, is_async, level)

    def give_back_beyond_share(self, of_state: Most, of_key: Most) -> list[Work]:
        """Give back calls that wait for their share, where more are held than may be; which."""
        return self._ready.give_back_beyond_share(of_state, of_key)

    def stop(self, timeout: float) -> None:
        """Evaluate no more; rows without an answer after ``timeout`` seconds are handed back."""
        self._stopped.set()
        self._inbox.put(None)
        if self.is_alive():
            self.join(timeout)
        for work in [*self._asking, *self._rest()]:
            self._results.hand_back(work)
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
        query_guard = self._query_guards[store.alias]
        # What is handed back is claimed and offered again soon: with an outage, too soon.
        self._stopped.wait(max(0.0, query_guard.retry_at - time.monotonic()))
        now, attempts = time.monotonic(), [each for work in works for each in attempts_of(work)]
        keys = [attempt.pk for attempt in attempts if _in_time(attempt, attempt.age(now))]
        try:
            with query_guard.asking(without_timeout=True):
                found, trace = self._decisions(store, attempts[0].model, state, keys)
            query_guard.succeeded()
        except (DatabaseError, InterfaceError) as error:
            if not self._explains(store, works[0].model, error):
                query_guard.failed(error)
            for work in works:  # nothing was decided
                self._results.hand_back(work)
        else:
            for attempt in attempts:
                if attempt.pk in found:
                    self._decide(attempt, found[attempt.pk], trace)
            # Rows of one call stay together, as many as are left of them.
            left = [[a for a in attempts_of(work) if a.pk not in found] for work in works]
            self._ready.put(work for some in left for work in together(some))

    def _decisions(
        self, store: Store, model: Any, state: State, keys: list[Any]
    ) -> tuple[dict[Any, Decision], str]:
        """What guards have decided, and the trace in which they did."""
        if self._spans is None or not keys:
            return decisions(store, model, state.guards, keys), ""
        with self._spans.guards(store, model, state.name) as looked:
            found = decisions(store, model, state.guards, keys)
            looked.moved = len(found)
            return found, current_trace()

    def _explains(self, store: Store, model: Any, error: Exception) -> bool:
        return is_refusal(error) and self._mismatches.explains(store, model, error)

    def _decide(self, attempt: Attempt, decision: Decision, trace: str) -> None:
        age = attempt.age(time.monotonic())
        outcome = OutcomeBuilder.of(attempt).of_guard(decision, age)
        outcome.trace = trace
        self._results.put((attempt, outcome))

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
    """Whether guards count: a swept row may be claimed for its timeout before they do.

    They count no more when the row's life is over.
    """
    row, state = attempt.row, attempt.state
    if outlived(row, state, age):
        return False
    return not too_early(row, state, age) and not (state.swept and age < state.start_after)
