"""
``python -m benchmarks.stages [ROUNDS]``: what a row of the drain costs in Python, stage by stage.

Each stage handles a thousand rows at once on this thread, in so many rounds; the shortest time
counts, which is the one that nothing else disturbed. No database takes part: the rows are made up,
and what is handed to the store counts as written.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

ROWS, ROUNDS = 1_000, 150
LEASE = 30.0
DEADLINE = 15.0

RUNNING = "running the check, and its answer turned into a write"
AROUND = "standing in line, being taken, all that surrounds the check"


def main(rounds: int = ROUNDS) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")
    import django

    django.setup()
    from django_fsmworker.runner.interpreter_tuning import collecting_seldom

    with collecting_seldom():  # as runstator has it
        best = measured(rounds)
    for stage, seconds in best.items():
        print(f"{1e6 * seconds / ROWS:5.2f} µs  {stage}")
    return 0


def measured(rounds: int) -> dict[str, float]:
    """The shortest time of each stage, in seconds for all rows."""
    stages = Stages()
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, seconds in stages.round().items():
            best[name] = min(seconds, best.get(name, seconds))
    best[AROUND] -= best[RUNNING]
    return best


class Stages:
    """The parts of a runner through which a row goes, without their threads."""

    def __init__(self) -> None:
        from benchmarks.app.models import Noop
        from django_fsmworker.conf import RunnerSettings
        from django_fsmworker.runner.counters import Counters
        from django_fsmworker.runner.database.connections import ThreadConnections
        from django_fsmworker.runner.database.outages import OutageTracker, query_timeouts
        from django_fsmworker.runner.execution.attempt_log import AttemptLog
        from django_fsmworker.runner.execution.outcomes import LostConnections
        from django_fsmworker.runner.executors.call_threads import CallThreads
        from django_fsmworker.runner.executors.thread_executor import CheckThread
        from django_fsmworker.runner.in_flight.attempts import InFlight
        from django_fsmworker.runner.in_flight.queues import ReadyQueue, ResultQueue
        from django_fsmworker.runner.in_flight.revocations import Revocations
        from django_fsmworker.runner.settler import RunOn, Settler
        from django_fsmworker.store import stores_for

        self._model = Noop
        self._store: Any = stores_for([Noop], None)[Noop]
        vars(self._store)["settle"] = lambda model, outcomes, worker: {each.pk for each in outcomes}
        outages = OutageTracker(query_timeouts(RunnerSettings.load()))
        self._holdings = InFlight()
        self._ready = ReadyQueue(None, give_back=_never)
        results = ResultQueue()
        revocations = Revocations(self._holdings, _never, list, LEASE, _never)
        self._settler = Settler(
            self._holdings,
            results,
            self._ready,
            Counters(),
            outages,
            "stages",
            RunOn(LEASE),
            revocations,
            [],
        )
        self._thread = CheckThread(
            1,
            self._ready,
            lambda work, result: results.put((work, result)),  # type: ignore[arg-type]
            AttemptLog("stages"),
            _never,
            LostConnections(outages),
            CallThreads(1, outages, {}),
            {},
            DEADLINE,
        )
        self._thread.connections = ThreadConnections()
        self._names = [field.attname for field in Noop._meta.concrete_fields]
        self._rows = [self._row(number) for number in range(1, ROWS + 1)]

    def round(self) -> dict[str, float]:
        """Every stage once, in the order of a row's way; all around a check includes running it."""
        from django_fsmworker.runner.execution.check_run import CheckRun
        from django_fsmworker.runner.execution.outcomes import OutcomeBuilder
        from django_fsmworker.runner.in_flight.attempts import attempts_at
        from django_fsmworker.store.tables import build

        clock = Clock()
        instances = clock(
            "an instance from the columns",
            lambda: build(self._model, "default", self._names, self._rows),
        )
        attempts = clock(
            "what the runner knows about it, counted",
            lambda: self._held(attempts_at(self._store, self._model, instances, 0.0, LEASE)),
        )
        clock(RUNNING, lambda: [CheckRun(OutcomeBuilder.of(each), 3.0).run() for each in attempts])
        clock(AROUND, lambda: self._checked(attempts))
        clock("outcomes together, and what follows from their being written", self._settled)
        return clock.spent

    def _row(self, number: int) -> Sequence[Any]:
        from django.utils import timezone

        now = timezone.now()
        values = {
            "id": number,
            "state": "new",
            "state_next": now,
            "state_changed": now - timedelta(seconds=3),
            "state_lease": now + timedelta(seconds=LEASE),
            "state_claim": 2**52,
            "state_failures": 0,
        }
        return [values[name] for name in self._names]

    def _held(self, attempts: list[Any]) -> list[Any]:
        now = time.monotonic()
        for attempt in attempts:
            attempt.claimed, attempt.lease_until = now, now + LEASE
        self._holdings.add(attempts)
        return attempts

    def _checked(self, attempts: list[Any]) -> None:
        self._ready.put(attempts, level=0)
        for _ in attempts:
            work = self._ready.take(1.0)
            assert work is not None
            self._thread._run_one(work)

    def _settled(self) -> None:
        batch, _ = self._settler._next_batch(block=False)
        for (store, model), items in self._settler._grouped(batch).items():
            self._settler._settle_group(store, model, items)
        assert not len(self._holdings), "a row was not settled"


class Clock:
    """Does what it is told, and keeps how long that took."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        began = time.thread_time()
        result = work()
        self.spent[name] = time.thread_time() - began
        return result


def _never(*_: Any) -> None:
    """Called back by nobody that matters here."""


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
