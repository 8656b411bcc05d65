"""The threads that run checks. Nothing a check raises ends one; a lost one is replaced."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from django.db import Error

from django_fsmworker.exceptions import TimeoutError
from django_fsmworker.runner.checking.atomic import judge_and_write
from django_fsmworker.runner.claiming.suspects import examine_if_possible
from django_fsmworker.runner.database.backing_off import Backoffs
from django_fsmworker.runner.database.connections import LONGEST_IDLE, ThreadConnections
from django_fsmworker.runner.judging.interrupting import finish
from django_fsmworker.runner.judging.loading_again import load_again
from django_fsmworker.runner.judging.many import judge_batch
from django_fsmworker.runner.judging.one import judge
from django_fsmworker.runner.settling.concluding import (
    LEFT_OPEN,
    Losses,
    concluded,
    failed_attempt,
    of_failure,
)
from django_fsmworker.runner.settling.concluding_batches import came_to
from django_fsmworker.runner.work.attempt import Attempt
from django_fsmworker.runner.work.batch import Batch, Result, Work
from django_fsmworker.runner.work.ready import ReadyQueue
from django_fsmworker.store.failures import Failure
from django_fsmworker.store.outcomes import Outcome

logger = logging.getLogger(__name__)

PassOn = Callable[[Work, Result], None]


class CheckThread(threading.Thread):
    """Takes rows, or batches of them, from the queue and runs their checks, one after the other.

    It ends after an attempt that was interrupted: its connections may be in any state. Being a
    daemon, it does not keep the process alive when it is stuck.
    """

    def __init__(
        self,
        number: int,
        ready: ReadyQueue,
        pass_on: PassOn,
        worker: str,
        on_end: Callable[[CheckThread], None],
        losses: Losses,
    ) -> None:
        super().__init__(name=f"fsmworker-check-{number}", daemon=True)
        self._on_end = on_end
        self._losses = losses
        self._backoffs = Backoffs(losses.outages)
        self._lost: str | None = None
        self._ready = ready
        self._pass_on = pass_on
        self._worker = worker
        self.work: Work | None = None
        self.given_up_at: float | None = None
        self.cut = False
        self.abandoned = False
        self.connections: ThreadConnections | None = None

    def run(self) -> None:
        self.connections = ThreadConnections()
        try:
            while not self._ready.closed:
                work = self._ready.take(LONGEST_IDLE)
                if work is None:
                    self.connections.close()
                elif self._run_one(work):
                    return
                elif self._lost is not None:
                    self._wait_for_database(self._lost, self.connections)
        finally:
            self.connections.close()
            self._on_end(self)

    def _run_one(self, work: Work) -> bool:
        """Run one check and pass on what it came to; whether it was interrupted."""
        assert self.connections is not None
        self.connections.drop_older_than(self._losses.outages.doubted_before)
        work.started = time.monotonic()
        self.work = work
        result, interrupted = self._result(work)
        self.work = None
        try:
            if not interrupted:
                self.connections.after_attempt()
        finally:
            self._pass_on(work, result)
            if not self.abandoned:
                self._ready.done(work)
        return interrupted

    def _wait_for_database(self, alias: str, connections: ThreadConnections) -> None:
        """Take no other row before the database is back: its check would only lose it, too."""
        while not self._ready.closed and (wait := self._backoffs[alias].connect()):
            time.sleep(wait)
        connections.after_attempt()
        self._lost = None

    def _result(self, work: Work) -> tuple[Result, bool]:
        """What the work came to, None if it counts for nothing, and if it was interrupted.

        An injected exception may surface between any two lines up to ``finish``.
        """
        result: Result = None
        try:
            try:
                result = self._judge(work)
            except TimeoutError:
                pass
            except Error as error:
                # The engine's own statements, not the check's: nothing was decided.
                self._lost = work.store.alias
                logger.warning("%s", error, extra={"action": "examine", "pk": work.pk})
            except BaseException as error:
                # Whatever it is, every row that was taken is settled.
                logger.exception("A check could not be judged.", extra={"action": "judge"})
                result = of_failure(work, Failure.of(error))
            interrupted = finish(work)
        except TimeoutError:
            interrupted = finish(work)
        return concluded(work, result), interrupted

    def _judge(self, work: Work) -> Result:
        if work.stale and not load_again(work, self._pass_on):
            return None
        assert self.connections is not None and work.started is not None
        if isinstance(work, Batch):
            return self._judge_batch(work, self.connections)
        attempt, age = work, work.age(work.started)
        if attempt.suspect:
            verdict = examine_if_possible(attempt, age, self._worker)
            if verdict is not None:
                return verdict
        outcome = self._run_check(attempt, age)
        if outcome is None:
            self._lost = attempt.store.alias
            return None
        failure = outcome.failure
        if failure is None or not self._is_lost(attempt, failure):
            self._losses.forget(attempt)
        elif self._losses.is_outage(attempt):
            return None  # the database went away under the check: interrupted, not failed
        if failure is None and self.connections.left_open():
            return failed_attempt(attempt, LEFT_OPEN)
        return outcome

    def _is_lost(self, work: Work, failure: Failure) -> bool:
        assert self.connections is not None
        if not self._losses.explains(work, failure) and not self.connections.lost():
            return False
        self._lost = work.store.alias
        return True

    def _run_check(self, attempt: Attempt, age: float) -> Outcome | None:
        if not attempt.state.atomic:
            return judge(attempt.row, age)
        return judge_and_write(attempt, lambda: judge(attempt.row, age), self._worker)

    def _judge_batch(self, batch: Batch, connections: ThreadConnections) -> Result:
        ages = [each.age(batch.started or 0.0) for each in batch.attempts]
        judged = judge_batch([each.row for each in batch.attempts], ages)
        return came_to(batch, judged, self._losses, connections.lost, connections.left_open)


class Pool:
    """A fixed number of threads that can work; abandoned ones are counted beside them."""

    def __init__(
        self, size: int, ready: ReadyQueue, pass_on: PassOn, worker: str, losses: Losses
    ) -> None:
        self._size = size
        self._ready = ready
        self._pass_on = pass_on
        self._worker = worker
        self._started = 0
        self._losses = losses
        self._lock = threading.Lock()
        self.threads: list[CheckThread] = []
        self.lost: list[CheckThread] = []

    def fill(self) -> None:
        """Start a thread for each that is missing."""
        with self._lock:
            if self._ready.closed:
                return
            while len(self.threads) < self._size:
                self._started += 1
                thread = CheckThread(
                    self._started,
                    self._ready,
                    self._pass_on,
                    self._worker,
                    self._ended,
                    self._losses,
                )
                self.threads.append(thread)
                thread.start()

    def _ended(self, thread: CheckThread) -> None:
        """A thread ends: put another in its place, unless that was done when it was abandoned."""
        with self._lock:
            for threads in (self.threads, self.lost):
                if thread in threads:
                    threads.remove(thread)
        self.fill()

    def abandon(self, thread: CheckThread, work: Work) -> None:
        """Give up waiting for a stuck thread: its rows stay leased, another thread has its slot."""
        with work.lock:
            if work.finished or thread.abandoned:
                return
            thread.abandoned = True
        with self._lock:
            self.threads.remove(thread)
            self.lost.append(thread)
        self._ready.done(work)
        self.fill()

    def running(self) -> list[tuple[CheckThread, Work]]:
        """Every thread that runs a check right now, abandoned ones included."""
        with self._lock:
            threads = [*self.threads, *self.lost]
        return [(each, work) for each in threads if (work := each.work) is not None]

    @property
    def abandoned(self) -> int:
        """How many threads are stuck."""
        return len(self.lost)
