"""The threads that run checks. Nothing a check raises ends one; a lost one is replaced."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from django.db import Error

from django_fsmworker.exceptions import TimeoutError
from django_fsmworker.runner.atomic import judge_and_write
from django_fsmworker.runner.attempt import Attempt
from django_fsmworker.runner.concluding import LEFT_OPEN, Losses, concluded, failed_attempt
from django_fsmworker.runner.connections import LONGEST_IDLE, ThreadConnections
from django_fsmworker.runner.interrupting import finish
from django_fsmworker.runner.judging import judge
from django_fsmworker.runner.ready import ReadyQueue
from django_fsmworker.runner.suspects import examine_if_possible
from django_fsmworker.store.failures import Failure
from django_fsmworker.store.outcomes import Outcome

logger = logging.getLogger(__name__)

Settle = Callable[[Attempt, Outcome | None], None]


class CheckThread(threading.Thread):
    """Takes rows from the queue and runs their checks, one after the other.

    It ends after an attempt that was interrupted: its connections may be in any state. Being a
    daemon, it does not keep the process alive when it is stuck.
    """

    def __init__(
        self,
        number: int,
        ready: ReadyQueue,
        settle: Settle,
        worker: str,
        on_end: Callable[[CheckThread], None],
        losses: Losses,
    ) -> None:
        super().__init__(name=f"fsmworker-check-{number}", daemon=True)
        self._on_end = on_end
        self._losses = losses
        self._ready = ready
        self._settle = settle
        self._worker = worker
        self.attempt: Attempt | None = None
        self.given_up_at: float | None = None
        self.abandoned = False
        self.connections: ThreadConnections | None = None

    def run(self) -> None:
        self.connections = ThreadConnections()
        try:
            while not self._ready.closed:
                attempt = self._ready.take(LONGEST_IDLE)
                if attempt is None:
                    self.connections.close()
                elif self._run_one(attempt):
                    return
        finally:
            self.connections.close()
            self._on_end(self)

    def _run_one(self, attempt: Attempt) -> bool:
        """Run one attempt and pass its outcome on; whether it was interrupted."""
        attempt.started = time.monotonic()
        self.attempt = attempt
        outcome, interrupted = self._outcome(attempt)
        self.attempt = None
        try:
            if not interrupted and self.connections is not None:
                self.connections.after_attempt()
        finally:
            self._settle(attempt, outcome)
            if not self.abandoned:
                self._ready.done(attempt)
        return interrupted

    def _outcome(self, attempt: Attempt) -> tuple[Outcome | None, bool]:
        """What the attempt came to, None if it counts for nothing, and if it was interrupted.

        An injected exception may surface between any two lines up to ``finish``.
        """
        outcome = None
        try:
            try:
                outcome = self._judge(attempt)
            except TimeoutError:
                pass
            except Error as error:
                # The engine's own statements, not the check's: nothing was decided.
                logger.warning("%s", error, extra={"action": "examine", "pk": attempt.pk})
            except BaseException as error:
                # Whatever it is, every row that was taken is settled.
                logger.exception("A check could not be judged.", extra={"action": "judge"})
                outcome = failed_attempt(attempt, Failure.of(error))
            interrupted = finish(attempt)
        except TimeoutError:
            interrupted = finish(attempt)
        return concluded(attempt, outcome), interrupted

    def _judge(self, attempt: Attempt) -> Outcome | None:
        assert self.connections is not None and attempt.started is not None
        age = attempt.age(attempt.started)
        if attempt.suspect:
            verdict = examine_if_possible(attempt, age, self._worker)
            if verdict is not None:
                return verdict
        outcome = self._run_check(attempt, age)
        if outcome is None:
            return None
        lost = outcome.failure is not None and self.connections.lost()
        if lost and self._losses.is_outage(attempt):
            return None  # the database went away under the check: interrupted, not failed
        if outcome.failure is None and self.connections.left_open():
            return failed_attempt(attempt, LEFT_OPEN)
        return outcome

    def _run_check(self, attempt: Attempt, age: float) -> Outcome | None:
        if not attempt.state.atomic:
            return judge(attempt.row, age)
        return judge_and_write(attempt, lambda: judge(attempt.row, age), self._worker)


class Pool:
    """A fixed number of threads that can work; abandoned ones are counted beside them."""

    def __init__(
        self, size: int, ready: ReadyQueue, settle: Settle, worker: str, losses: Losses
    ) -> None:
        self._size = size
        self._ready = ready
        self._settle = settle
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
                    self._settle,
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

    def abandon(self, thread: CheckThread, attempt: Attempt) -> None:
        """Give up waiting for a stuck thread: its row stays leased, another thread has its slot."""
        with attempt.lock:
            if attempt.finished or thread.abandoned:
                return
            thread.abandoned = True
        with self._lock:
            self.threads.remove(thread)
            self.lost.append(thread)
        self._ready.done(attempt)
        self.fill()

    def running(self) -> list[tuple[CheckThread, Attempt]]:
        """Every thread that runs a check right now, abandoned ones included."""
        with self._lock:
            threads = [*self.threads, *self.lost]
        return [(each, attempt) for each in threads if (attempt := each.attempt) is not None]

    @property
    def abandoned(self) -> int:
        """How many threads are stuck."""
        return len(self.lost)
