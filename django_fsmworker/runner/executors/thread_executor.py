"""Running sync checks on threads. Nothing a check raises ends one; a lost one is replaced."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from functools import partial

from django.db import Error

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.deadline import DEADLINE
from django_fsmworker.exceptions import TimeoutError
from django_fsmworker.logs import logger_for
from django_fsmworker.runner.database.connections import (
    LONGEST_IDLE,
    StatementLimits,
    ThreadConnections,
)
from django_fsmworker.runner.database.outages import QueryGuards
from django_fsmworker.runner.execution.atomic import run_atomically
from django_fsmworker.runner.execution.attempt_log import AttemptLog
from django_fsmworker.runner.execution.check_run import reload, run_of
from django_fsmworker.runner.execution.interruption import (
    flag_of_overdue,
    interrupt,
    seconds_left,
)
from django_fsmworker.runner.execution.middleware import AttemptMiddleware
from django_fsmworker.runner.execution.outcomes import (
    LostConnections,
    after_flags,
    conclude,
    error_result,
)
from django_fsmworker.runner.execution.suspects import examine
from django_fsmworker.runner.executors.call_threads import Calls, CallThreads
from django_fsmworker.runner.in_flight.attempts import Result, Work, finish, work_fields
from django_fsmworker.runner.in_flight.queues import OnResult, ReadyQueue

logger = logger_for(__name__)


class CheckThread(threading.Thread):
    """A thread that takes work from the queue and runs the checks, one after the other.

    It ends after an attempt that was interrupted: its connections may be in any state. Being a
    daemon, it does not keep the process alive when it is stuck.
    """

    def __init__(
        self,
        number: int,
        ready: ReadyQueue,
        pass_on: OnResult,
        log: AttemptLog,
        on_end: Callable[[CheckThread], None],
        losses: LostConnections,
        call_threads: CallThreads,
        limits: StatementLimits,
        deadline: float,
        middleware: AttemptMiddleware | None = None,
    ) -> None:
        super().__init__(name=f"fsmworker-check-{number}", daemon=True)
        self._limits = limits
        # What is called below an asyncio.run() of a check. The context is copied for each check.
        self.calls = Calls(call_threads)
        self._context = contextvars.Context()
        self._context.run(self.calls.enter)
        self._context.run(DEADLINE.set, deadline)
        self._on_end = on_end
        self._losses = losses
        self._mismatches = losses.outages.mismatches
        self._query_guards = QueryGuards(losses.outages)
        self._lost: str | None = None
        self._ready = ready
        self._pass_on = pass_on
        self._log = log
        self._middleware = middleware
        self.work: Work | None = None
        self.given_up_at: float | None = None
        self.cut = False
        self.abandoned = False
        self.lent = False
        self.connections: ThreadConnections | None = None

    def run(self) -> None:
        self.connections = ThreadConnections(for_user_code=True, limits=self._limits)
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
        """Run one check and pass on its result; whether it was interrupted."""
        assert self.connections is not None
        self.connections.drop_older_than(self._losses.outages.doubted_before)
        work.started = time.monotonic()
        result, interrupted = self._result(work)
        self.work = None
        if self.calls.used:
            self.calls.close()
        try:
            if not interrupted:
                self.connections.after_attempt()
        finally:
            self._pass_on(work, result)
            if not self.abandoned:
                self._ready.done(work)
        return interrupted

    def _wait_for_database(self, alias: str, connections: ThreadConnections) -> None:
        """Take no other row before the database is back, which its check would lose, too."""
        while not self._ready.closed and (wait := self._query_guards[alias].connect()):
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
                self.work = work  # from here on somebody may interrupt
                result = self._context.copy().run(self._run_check, work)
            except TimeoutError:
                pass
            except Error as error:
                # The engine's own statements, not the check's: nothing was decided.
                self._lost = work.store.alias
                if not self._mismatches.explains(work.store, work.model, error):
                    logger.warning(
                        "%s",
                        error,
                        extra={"action": "examine", **work_fields(work, self._log.worker)},
                    )
            except BaseException as error:
                result = error_result(work, error, self._log)
            interrupted = finish(work)
        except TimeoutError:
            interrupted = finish(work)
        return after_flags(work, result), interrupted

    def _run_check(self, work: Work) -> Result:
        if work.stale and not reload(work, self._pass_on):
            return None
        if work.suspect:
            last = examine(work, self._log.worker)
            if last is not None:
                return last
        ended = (
            run_atomically(work, self._log.worker, self._middleware)  # type: ignore[arg-type]
            if work.state.atomic
            else run_of(work, self._middleware).run()
        )
        if self.calls.pending:
            self.calls.wait()
        result = conclude(work, ended, self._losses, self._has_lost, self._has_left_open, self._log)
        if result is None:
            self._lost = work.store.alias
        return result

    def _has_lost(self) -> bool:
        """Whether a database went away under the check."""
        assert self.connections is not None
        return self.calls.lost or self.connections.lost()

    def _has_left_open(self) -> bool:
        """Whether the check left a transaction open."""
        assert self.connections is not None
        return self.calls.left_open or self.connections.left_open()


def _waits_for_database(thread: CheckThread, work: Work) -> bool:
    """Whether the check waits for its database, be it in a call that another thread makes."""
    return bool(thread.calls.pending) or work.store.is_waited_for_by(thread.ident or 0)


class ThreadExecutor:
    """Runs sync checks: ``concurrency`` threads that can work, abandoned ones beside them.

    A check that is no longer wanted, its row having moved on, may be ending still, in a call that
    takes its time. Its slot is lent to another thread meanwhile, up to as many as there are slots;
    its own thread counts as abandoned only if it overruns the check's own deadline.

    ``on_abandon`` is called with the work of a thread that is given up.
    """

    is_async = False

    def __init__(
        self,
        settings: RunnerSettings,
        ready: ReadyQueue,
        on_result: OnResult,
        log: AttemptLog,
        losses: LostConnections,
        on_abandon: Callable[[Work], None],
        call_threads: CallThreads,
        middleware: AttemptMiddleware | None,
        limits: StatementLimits,
    ) -> None:
        self.size = settings.concurrency
        self._call_threads = call_threads
        self._middleware = middleware
        self._limits = limits
        self._settings = settings
        self._ready = ready
        self._on_result = on_result
        self._log = log
        self._losses = losses
        self._on_abandon = on_abandon
        self._started = 0
        self._lock = threading.Lock()
        self._threads: list[CheckThread] = []
        self._lost: list[CheckThread] = []

    def start(self) -> None:
        """Start all threads."""
        self.ensure_running()

    def ensure_running(self) -> None:
        """Start a thread for each that is missing."""
        with self._lock:
            if self._ready.closed:
                return
            while len(self._threads) < self.size:
                self._started += 1
                thread = CheckThread(
                    self._started,
                    self._ready,
                    self._on_result,
                    self._log,
                    self._ended,
                    self._losses,
                    self._call_threads,
                    self._limits,
                    self._settings.deadline,
                    self._middleware,
                )
                self._threads.append(thread)
                thread.start()

    def running(self) -> list[Work]:
        """All work that has a thread, abandoned ones included."""
        return [work for _, work in self._busy()]

    @property
    def abandoned(self) -> int:
        """The number of threads that are stuck."""
        return sum(not each.lent for each in tuple(self._lost))

    def interrupt(self, work: Work, flag: str) -> None:
        """End a check; if its thread has not noticed after a while it is abandoned."""
        for thread, running in self._busy():
            if running is work:
                self._interrupt(thread, work, flag)

    def enforce_deadlines(self) -> float:
        """Interrupt checks that overrun, abandon their threads if they do not notice.

        Returns the seconds until something is due again, at most the default deadline.
        """
        now, sleep = time.monotonic(), self._settings.deadline
        for thread, work in self._busy():
            if work.started is None or (thread.abandoned and not thread.lent):
                continue
            if thread.lent:
                left = self._seconds_left(thread, work)
                if left <= 0:
                    thread.lent, left = False, self._settings.deadline
                    self._log_abandoned(thread, work)
            elif thread.given_up_at is not None:
                left = thread.given_up_at - now
                if left <= 0:
                    left = self._give_up(thread, work)
            else:
                left = self._seconds_left(thread, work)
                if left <= 0:
                    self._interrupt(thread, work, flag_of_overdue(work, self._losses.outages))
                    left = self._settings.abandon_after
            sleep = min(sleep, left)
        return sleep

    def stop(self, timeout: float) -> None:
        """Wait for nothing: threads end with their checks, and do not keep the process alive."""

    def _seconds_left(self, thread: CheckThread, work: Work) -> float:
        deadline = work.state.deadline or self._settings.deadline
        return seconds_left(
            work, deadline, self._losses.outages, partial(_waits_for_database, thread, work)
        )

    def _busy(self) -> list[tuple[CheckThread, Work]]:
        """Every thread that runs a check right now, abandoned ones included."""
        with self._lock:
            threads = [*self._threads, *self._lost]
        return [(each, work) for each in threads if (work := each.work) is not None]

    def _ended(self, thread: CheckThread) -> None:
        """Replace a thread that ends, unless that was done when it was abandoned."""
        with self._lock:
            for threads in (self._threads, self._lost):
                if thread in threads:
                    threads.remove(thread)
        self.ensure_running()

    def _interrupt(self, thread: CheckThread, work: Work, flag: str) -> None:
        if interrupt(work, thread.ident or 0, thread.connections, flag):
            thread.calls.interrupt()
            thread.given_up_at = time.monotonic() + self._settings.abandon_after
            self._log.interrupted(work, flag)

    def _give_up(self, thread: CheckThread, work: Work) -> float:
        """Cut the connections of a thread that did not notice, then abandon it.

        It may wait for a server that is gone; otherwise it is stuck elsewhere.
        """
        if not thread.cut and thread.connections is not None and thread.connections.cut():
            thread.cut = True
            thread.given_up_at = time.monotonic() + self._settings.abandon_after
            return self._settings.abandon_after
        lend = work.superseded and self._seconds_left(thread, work) > 0
        if lend and sum(each.lent for each in self._lost) >= self.size:
            thread.given_up_at = time.monotonic() + self._settings.abandon_after
            return self._settings.abandon_after
        self._abandon(thread, work, lend)
        return self._seconds_left(thread, work) if lend else self._settings.deadline

    def _abandon(self, thread: CheckThread, work: Work, lend: bool) -> None:
        """Give up waiting for a stuck thread: its rows stay leased, another thread has its slot."""
        with work.lock:
            if work.finished or thread.abandoned:
                return
            thread.abandoned, thread.lent = True, lend
        thread.calls.abandon()
        with self._lock:
            self._threads.remove(thread)
            self._lost.append(thread)
        self._ready.done(work)
        self.ensure_running()
        if not lend:
            self._log_abandoned(thread, work)
        self._on_abandon(work)

    def _log_abandoned(self, thread: CheckThread, work: Work) -> None:
        logger.error(
            "The check of %s %s does not end; its thread %s is abandoned (%d so far).",
            work.model._meta.label,
            work.pk,
            thread.name,
            self.abandoned,
            extra={"action": "abandoned", **work_fields(work, self._log.worker)},
        )
