"""Running async checks on an event loop, which is replaced when a check blocks it."""

from __future__ import annotations

import threading
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable
from dataclasses import replace

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.logs import logger_for
from django_fsmworker.runner.execution.attempt_log import AttemptLog
from django_fsmworker.runner.execution.interruption import interrupt, seconds_left
from django_fsmworker.runner.execution.middleware import AttemptMiddleware
from django_fsmworker.runner.execution.outcomes import LostConnections
from django_fsmworker.runner.executors.call_threads import CallThreads
from django_fsmworker.runner.executors.event_loop import EventLoop
from django_fsmworker.runner.executors.feeder import Feeder
from django_fsmworker.runner.executors.slots import Pulse, Slots
from django_fsmworker.runner.in_flight.attempts import Result, Work, work_fields
from django_fsmworker.runner.in_flight.queues import OnResult, ReadyQueue

logger = logger_for(__name__)


class AsyncExecutor:
    """Runs async checks: ``async_concurrency`` slots, those of abandoned ones given to others.

    A loop with too much to do gets fewer at once; so does one whose checks wait for the threads in
    which they call.
    ``on_abandon`` is called with the work of a coroutine that is given up.
    """

    is_async = True

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
    ) -> None:
        self.size = settings.async_concurrency
        self._settings = settings
        self._ready = ready
        self._on_result = on_result
        self._log = log
        self._losses = losses
        self._on_abandon = on_abandon
        self._threads = call_threads
        self._middleware = middleware
        self._slots = Slots(settings.async_concurrency)
        self._feeder = Feeder(ready, self._slots, self._begin, on_result, log, losses.outages)
        self._lock = threading.Lock()
        self._loops: list[EventLoop] = []  # looked at by other threads, too
        self._blocked: dict[EventLoop, Work | None] = {}
        self._doubted: set[EventLoop] = set()
        self._where: dict[Work, EventLoop] = {}
        self._abandoned: set[Work] = set()
        self._ending: set[Work] = set()  # of those: not wanted any more, within their deadlines

    def start(self) -> None:
        """Start the loop, and the thread that feeds it."""
        self._new_loop()
        self._feeder.start()

    def ensure_running(self) -> None:
        """Raise ``RuntimeError`` if the loop or its feeder has ended."""
        if not (self._feeder.is_alive() and self._loops[-1].is_alive()):
            raise RuntimeError("The event loop's thread has ended; this runner ends, too.")

    def event_loops(self) -> list[AbstractEventLoop]:
        """The loops whose threads run, those that were given up included."""
        return [each.loop for each in tuple(self._loops) if each.is_alive()]

    def running(self) -> list[Work]:
        """All work that was taken and has not ended, abandoned ones included."""
        with self._lock:
            return [*self._where, *self._abandoned]

    def interrupt(self, work: Work, flag: str) -> None:
        """End a check that still runs."""
        loop = self._where.get(work)
        if loop is not None:
            loop.end(work, flag)

    @property
    def abandoned(self) -> int:
        """The number of coroutines that do not end, and of loops that something else blocks."""
        return len(self._abandoned - self._ending) + sum(
            loop.is_alive() and culprit is None for loop, culprit in tuple(self._blocked.items())
        )

    def stop(self, timeout: float) -> None:
        """End the threads; what still runs was interrupted before, and may be left behind."""
        end = time.monotonic() + timeout
        self._slots.close()  # the feeder may wait for one
        for loop in self._loops:
            loop.finish()
        for thread in (self._feeder, *self._loops):
            thread.join(max(0.0, end - time.monotonic()))

    def _new_loop(self) -> None:
        settings = self._settings
        loop = EventLoop(
            len(self._loops) + 1,
            self._threads,
            self._losses,
            self._log,
            self._middleware,
            settings.deadline,
            settings.abandon_after,
            self._ended,
            self._abandon,
            self._pulse,
        )
        loop.start()
        self._loops.append(loop)

    def _pulse(self, pulse: Pulse) -> None:
        """Called on the loop."""
        self._slots.see(replace(pulse, line=self._threads.delay()))

    def _begin(self, work: Work) -> None:
        with self._lock:
            loop = self._loops[-1]
            self._where[work] = loop
            loop.begin(work)

    def _ended(self, work: Work, result: Result) -> None:
        """Called on the loop when a check is over."""
        self._on_result(work, result)
        self._free(work)
        with self._lock:
            self._abandoned.discard(work)
            self._ending.discard(work)

    def _free(self, work: Work) -> bool:
        """Give the slot of ``work`` to another, once."""
        with self._lock:
            if self._where.pop(work, None) is None:
                return False
        self._ready.done(work)
        by_itself = work.finished and not (work.overran or work.cancelled)
        self._slots.release(time.monotonic() - (work.started or 0.0) if by_itself else None)
        return True

    def _abandon(self, work: Work) -> None:
        """Give up a check that does not end: its row stays leased, another has its slot."""
        with self._lock:
            if work.finished or work in self._abandoned or work not in self._where:
                return
            ending = work.superseded and self._seconds_left(work) > 0
            self._abandoned.add(work)
            if ending:
                self._ending.add(work)
        self._free(work)
        if not ending:
            self._log_abandoned(work)
        self._on_abandon(work)

    def _seconds_left(self, work: Work) -> float:
        """Of a check that is ending; where it waits need not be known to tell of it later."""
        deadline = work.state.deadline or self._settings.deadline
        return seconds_left(work, deadline, self._losses.outages, lambda: True)

    def _log_abandoned(self, work: Work) -> None:
        logger.error(
            "The coroutine of %s %s does not end; it is abandoned (%d so far).",
            work.model._meta.label,
            work.pk,
            self.abandoned,
            extra={"action": "abandoned", **work_fields(work, self._log.worker)},
        )

    # A check that blocks the loop; deadlines themselves have timers on it. All of this runs on the
    # thread that looks after deadlines.

    def enforce_deadlines(self) -> float:
        """Replace a loop that does not come round; returns the seconds until the next look."""
        if not self._loops:
            return self._settings.deadline
        for loop, culprit in list(self._blocked.items()):
            self._give_up(loop, culprit)
        for work in [each for each in tuple(self._ending) if self._seconds_left(each) <= 0]:
            self._ending.discard(work)
            self._log_abandoned(work)
        loop = self._loops[-1]
        if not loop.running() or loop.silent_for() < self._longest_silence(loop):
            self._doubted.discard(loop)
            return self._settings.deadline
        if loop not in self._doubted:  # a process that was stopped and goes on is no stall
            self._doubted.add(loop)
        else:
            self._replace(loop)
        return self._settings.abandon_after

    def _longest_silence(self, loop: EventLoop) -> float:
        """The shortest deadline of the checks on ``loop``, in seconds."""
        default = self._settings.deadline
        return min([work.state.deadline or default for work in loop.running()] or [default])

    def _replace(self, loop: EventLoop) -> None:
        """Start a new loop; the culprit is interrupted, its neighbours are cancelled."""
        culprit, where = loop.what_runs()
        logger.error(
            "The event loop gave no sign for %.1f s: %s blocks it at %s; a new one takes over.",
            loop.silent_for(),
            f"{culprit.model._meta.label} {culprit.pk}" if culprit else "something",
            where,
            extra={"action": "blocked"}
            | (work_fields(culprit, self._log.worker) if culprit else {"worker": self._log.worker}),
        )
        with self._lock:
            self._new_loop()
            self._blocked[loop] = culprit
            others = [each for each, on in self._where.items() if on is loop]
        for work in others:  # before the loop can come back and find them overdue
            if work is not culprit:
                loop.end(work, "cancelled")
        if culprit is not None and interrupt(culprit, loop.ident or 0, None, "overran"):
            self._log.interrupted(culprit, "overran")
        loop.finish()

    def _give_up(self, loop: EventLoop, culprit: Work | None) -> None:
        """Abandon the check that blocks ``loop``, hand back the others, which do not run."""
        for work in [each for each, where in list(self._where.items()) if where is loop]:
            if work is culprit:
                self._abandon(work)
            elif self._free(work):
                self._on_result(work, None)
        if not loop.is_alive():
            del self._blocked[loop]
