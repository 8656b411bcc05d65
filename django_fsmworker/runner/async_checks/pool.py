"""Runs async checks: so many at once, on an event loop that is replaced when a check blocks it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.runner.async_checks.call_threads import CallThreads
from django_fsmworker.runner.async_checks.event_loop import EventLoop
from django_fsmworker.runner.async_checks.feeder import Feeder
from django_fsmworker.runner.judging.interrupting import interrupt, log_interrupted
from django_fsmworker.runner.settling.concluding import Losses
from django_fsmworker.runner.work.batch import Result, Work
from django_fsmworker.runner.work.ready import ReadyQueue

logger = logging.getLogger(__name__)

PassOn = Callable[[Work, Result], None]


class AsyncPool:
    """Slots for coroutines; those of abandoned ones are given to others.

    Nothing is started for a runner whose models have no async checks.
    """

    def __init__(
        self,
        settings: RunnerSettings,
        ready: ReadyQueue,
        pass_on: PassOn,
        worker: str,
        losses: Losses,
        on_abandon: Callable[[Work], None],
    ) -> None:
        self._settings = settings
        self._ready = ready
        self._pass_on = pass_on
        self._losses = losses
        self._on_abandon = on_abandon
        self._threads = CallThreads(settings.async_threads, losses.outages)
        self._slots = threading.Semaphore(settings.async_concurrency)
        self._feeder = Feeder(ready, self._slots, self._begin, pass_on, worker, losses.outages)
        self._lock = threading.Lock()
        self._loops: list[EventLoop] = []
        self._blocked: dict[EventLoop, Work | None] = {}
        self._doubted: set[EventLoop] = set()
        self._where: dict[Work, EventLoop] = {}
        self._abandoned: set[Work] = set()

    def start(self) -> None:
        """Start the loop and the thread that feeds it."""
        self._new_loop()
        self._feeder.start()

    def is_alive(self) -> bool:
        """Whether it can take rows."""
        return self._feeder.is_alive() and self._loops[-1].is_alive()

    def running(self) -> list[Work]:
        """All work that was taken and has not ended, abandoned ones included."""
        with self._lock:
            return [*self._where, *self._abandoned]

    def end(self, work: Work, flag: str) -> None:
        """Interrupt a check, if it still runs."""
        loop = self._where.get(work)
        if loop is not None:
            loop.end(work, flag)

    @property
    def abandoned(self) -> int:
        """How many coroutines do not end, and loops that nobody in particular blocks."""
        return len(self._abandoned) + sum(
            loop.is_alive() and culprit is None for loop, culprit in self._blocked.items()
        )

    def stop(self, timeout: float) -> None:
        """End the threads; what still runs was interrupted before, and may be left behind."""
        end = time.monotonic() + timeout
        self._slots.release()  # the feeder may wait for one
        for loop in self._loops:
            loop.finish()
        for thread in (self._feeder, *self._loops):
            thread.join(max(0.0, end - time.monotonic()))
        self._threads.stop(max(0.1, end - time.monotonic()))  # last: what is cancelled may call

    def _new_loop(self) -> None:
        settings = self._settings
        loop = EventLoop(
            len(self._loops) + 1,
            self._threads,
            self._losses,
            settings.deadline,
            settings.abandon_after,
            self._ended,
            self._abandon,
        )
        loop.start()
        self._loops.append(loop)

    def _begin(self, work: Work) -> None:
        with self._lock:
            loop = self._loops[-1]
            self._where[work] = loop
            loop.begin(work)

    def _ended(self, work: Work, result: Result) -> None:
        """Called on the loop when a check is over."""
        self._pass_on(work, result)
        self._free(work)
        with self._lock:
            self._abandoned.discard(work)

    def _free(self, work: Work) -> bool:
        """Give its slot to another, once."""
        with self._lock:
            if self._where.pop(work, None) is None:
                return False
        self._ready.done(work)
        self._slots.release()
        return True

    def _abandon(self, work: Work) -> None:
        """It does not end: its row stays leased, another has its slot."""
        with self._lock:
            if work.finished or work in self._abandoned or work not in self._where:
                return
            self._abandoned.add(work)
        self._free(work)
        logger.error(
            "The coroutine of %s %s does not end; it is abandoned (%d so far).",
            work.model._meta.label,
            work.pk,
            self.abandoned,
            extra={"action": "abandoned", "model": work.model._meta.label, "pk": work.pk},
        )
        self._on_abandon(work)

    # A check that blocks the loop. All of this runs on the thread that looks after deadlines.

    def look(self) -> float:
        """Replace a loop that gives no sign; returns the seconds until another look is needed."""
        if not self._loops:
            return self._settings.deadline
        for loop, culprit in list(self._blocked.items()):
            self._give_up(loop, culprit)
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
        """The shortest deadline of what runs on it."""
        default = self._settings.deadline
        return min([work.state.deadline or default for work in loop.running()] or [default])

    def _replace(self, loop: EventLoop) -> None:
        """Others go on in a new loop; the culprit is interrupted, its neighbours are cancelled."""
        culprit, place = loop.what_runs()
        logger.error(
            "The event loop gave no sign for %.1f s: %s blocks it at %s; a new one takes over.",
            loop.silent_for(),
            f"{culprit.model._meta.label} {culprit.pk}" if culprit else "something",
            place,
            extra={"action": "blocked"},
        )
        with self._lock:
            self._new_loop()
            self._blocked[loop] = culprit
            others = [each for each, where in self._where.items() if where is loop]
        for work in others:  # before the loop can come back and find them overdue
            if work is not culprit:
                loop.end(work, "cancelled")
        if culprit is not None and interrupt(culprit, loop.ident or 0, None, "overran"):
            log_interrupted(culprit, "overran")
        loop.finish()

    def _give_up(self, loop: EventLoop, culprit: Work | None) -> None:
        """It did not come back: abandon who blocks it, hand back the others, which do not run."""
        for work in [each for each, where in list(self._where.items()) if where is loop]:
            if work is culprit:
                self._abandon(work)
            elif self._free(work):
                self._pass_on(work, None)
        if not loop.is_alive():
            del self._blocked[loop]
