"""One event loop on a thread of its own, and the checks that run on it."""

from __future__ import annotations

import asyncio
import contextvars
import selectors
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django_fsmworker.exceptions import TimeoutError
from django_fsmworker.logs import logger_for
from django_fsmworker.runner.execution.attempt_log import AttemptLog
from django_fsmworker.runner.execution.check_run import run_of
from django_fsmworker.runner.execution.interruption import flag_of_overdue, seconds_left
from django_fsmworker.runner.execution.middleware import AttemptMiddleware
from django_fsmworker.runner.execution.outcomes import (
    LostConnections,
    after_flags,
    conclude,
    error_result,
)
from django_fsmworker.runner.executors.call_threads import (
    OF_THIS_CHECK,
    Calls,
    CallThreads,
    DefaultExecutor,
)
from django_fsmworker.runner.executors.slots import Pulse
from django_fsmworker.runner.in_flight.attempts import Result, Work, finish, flag_as

logger = logger_for(__name__)

LONGEST_GOODBYE = 1.0
SHORTEST_BLOCK = 0.1
PULSE = 0.02

OnEnd = Callable[[Work, Result], None]


@dataclass(slots=True)
class Running:
    """One call of a check on the loop; it has no ``deadline`` until the loop gets to it."""

    task: asyncio.Task[None]
    calls: Calls
    deadline: asyncio.TimerHandle | None = None


class EventLoop(threading.Thread):
    """A thread that runs coroutines side by side, each with its deadline.

    Being a daemon, it may be left behind. ``begin`` and ``end`` are called by other threads; what
    begins with an underscore runs here. While checks run, ``on_pulse`` is told every 20 ms what
    was seen of the loop.
    """

    def __init__(
        self,
        number: int,
        threads: CallThreads,
        losses: LostConnections,
        log: AttemptLog,
        middleware: AttemptMiddleware | None,
        deadline: float,
        abandon_after: float,
        on_end: OnEnd,
        on_abandon: Callable[[Work], None],
        on_pulse: Callable[[Pulse], None],
    ) -> None:
        super().__init__(name=f"fsmworker-loop-{number}", daemon=True)
        self._threads = threads
        self._losses = losses
        self._log = log
        self._middleware = middleware
        self._default_deadline = deadline
        self._abandon_after = abandon_after
        self._on_end = on_end
        self._on_abandon = on_abandon
        self._on_pulse = on_pulse
        self._expects_pulse = False
        self._inbox: deque[Work] = deque()
        self._woken = False
        self._running: dict[Work, Running] = {}
        self._last = self._ending = False
        self._asked: float | None = None
        self._idle = IdleTime()
        self._loop = self._idle.measured(asyncio.new_event_loop())
        self._loop.set_default_executor(DefaultExecutor(threads))

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop itself, to be looked at."""
        return self._loop

    def begin(self, work: Work) -> None:
        """Run the check of ``work``; many that come at once wake the loop once."""
        self._inbox.append(work)
        if not self._woken:
            self._woken = True
            with suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._begin_all)

    def end(self, work: Work, flag: str) -> bool:
        """Interrupt a check; False if it had ended."""
        if not flag_as(work, flag):
            return False
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._cancel, work)
        self._log.interrupted(work, flag)
        return True

    def finish(self) -> None:
        """End the thread as soon as nothing runs on it."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._finish)

    def running(self) -> list[Work]:
        """The work whose checks run here."""
        return list(self._running)

    def silent_for(self) -> float:
        """Ask the loop for a sign of life; returns the seconds for which it has owed one."""
        asked = self._asked
        if asked is None:
            asked = self._asked = time.monotonic()
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._answer)
        return time.monotonic() - asked

    def what_runs(self) -> tuple[Work | None, str]:
        """The work in whose code the loop is right now, if it can be told, and the line of code."""
        task = asyncio.current_task(self._loop)
        frame = sys._current_frames().get(self.ident or 0)
        line = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "an unknown place"
        for work, running in tuple(self._running.items()):
            if running.task is task:
                return work, line
        # A task that a check has started has its context; Python 3.11 does not tell.
        context = getattr(task, "get_context", contextvars.Context)()
        calls = context.get(OF_THIS_CHECK)
        return calls.work if calls else None, line

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            while not self._last or self._running:
                try:
                    self._loop.run_forever()
                except (SystemExit, KeyboardInterrupt, TimeoutError) as error:
                    # From a task that a check started, or injected a moment too late.
                    logger.warning("A task ended with %r.", error, extra={"action": "task"})
            self._ending = True
            self._cancel_leftovers()
        finally:
            self._loop.close()

    def _begin_all(self) -> None:
        self._woken = False
        while self._inbox:
            self._begin(self._inbox.popleft())
        if self._running and not self._expects_pulse:
            self._expect_pulse()

    def _begin(self, work: Work) -> None:
        calls = Calls(self._threads, work)
        self._running[work] = Running(
            self._loop.create_task(self._run(work, calls), context=contextvars.Context()), calls
        )

    async def _run(self, work: Work, calls: Calls) -> None:
        """One check from its start to what it came to; its flags say if it was interrupted."""
        result: Result = None
        running = self._running[work]
        # Not before: a loop with much to do may take its time until it gets here.
        work.started = time.monotonic()
        running.deadline = self._expect_end(work, self._deadline_of(work))
        try:
            if not work.cancelled:
                result = await self._run_check(work, calls)
        except BaseException as error:
            result = error_result(work, error, self._log)
        if calls.pending:
            await calls.ended()
        finish(work)
        calls.close()
        self._running.pop(work)
        running.deadline.cancel()
        self._on_end(work, after_flags(work, result))
        if self._last:
            self._finish()

    async def _run_check(self, work: Work, calls: Calls) -> Result:
        calls.enter()
        ended = await run_of(work, self._middleware).run_async()
        return conclude(
            work, ended, self._losses, lambda: calls.lost, lambda: calls.left_open, self._log
        )

    def _overdue(self, work: Work, due: float) -> None:
        """End a check past its deadline; time that another took from it is not counted, once."""
        late = self._loop.time() - due
        left = seconds_left(
            work,
            self._deadline_of(work),
            self._losses.outages,
            lambda: bool(self._running[work].calls.pending),
        )
        if late > SHORTEST_BLOCK:
            self._running[work].deadline = self._loop.call_later(late, self._end, work)
        elif left > 0:
            self._running[work].deadline = self._expect_end(work, left)
        else:
            self._end(work)

    def _end(self, work: Work) -> None:
        self.end(work, flag_of_overdue(work, self._losses.outages))

    def _expect_end(self, work: Work, within: float) -> asyncio.TimerHandle:
        return self._loop.call_later(within, self._overdue, work, self._loop.time() + within)

    def _deadline_of(self, work: Work) -> float:
        return work.state.deadline or self._default_deadline

    def _cancel(self, work: Work) -> None:
        running = self._running.get(work)
        if running is not None:
            if running.deadline is not None:  # cancelled before, it would end without a word
                running.task.cancel()
            running.calls.interrupt()
            self._loop.call_later(self._abandon_after, self._abandon, work)

    def _abandon(self, work: Work) -> None:
        running = self._running.get(work)
        if running is not None:
            running.calls.abandon()
            self._on_abandon(work)

    def _expect_pulse(self) -> None:
        self._idle.seconds = 0.0
        self._expects_pulse = True
        now = self._loop.time()
        # The timer's call is the first of a round or its last; the one after it has seen them all.
        self._loop.call_later(PULSE, self._loop.call_soon, self._pulse, now)

    def _pulse(self, before: float) -> None:
        elapsed = self._loop.time() - before
        late = elapsed - PULSE
        idle = self._idle.seconds if self._idle.is_measured else elapsed - late
        self._on_pulse(Pulse(elapsed, idle, late))
        self._expects_pulse = False
        if self._running:
            self._expect_pulse()

    def _answer(self) -> None:
        self._asked = None

    def _finish(self) -> None:
        self._last = True
        # Asked once more at its end, the loop would stop before its leftovers have ended.
        if not self._running and not self._ending:
            self._loop.stop()

    def _cancel_leftovers(self) -> None:
        """Cancel the tasks that checks started and left behind."""
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.wait(tasks, timeout=LONGEST_GOODBYE))
        # The clients of ``per_loop()`` are closed here, as at the end of ``asyncio.run()``.
        with suppress(asyncio.TimeoutError):
            self._loop.run_until_complete(
                asyncio.wait_for(self._loop.shutdown_asyncgens(), LONGEST_GOODBYE)
            )


class IdleTime:
    """The seconds that a loop has waited for something to do; whoever reads them sets them to 0.

    They are measured where the loop waits, in its selector. A loop of another kind, which a policy
    may provide, is not measured.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.is_measured = False

    def measured(self, loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
        """A loop of the same kind whose idle time is measured, or ``loop`` itself."""
        if type(loop) is not asyncio.SelectorEventLoop:
            return loop
        loop.close()
        self.is_measured = True
        return asyncio.SelectorEventLoop(_Selector(self))


class _Selector(selectors.DefaultSelector):
    def __init__(self, idle: IdleTime) -> None:
        super().__init__()
        self._idle = idle

    def select(self, timeout: float | None = None) -> Any:
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        before = time.monotonic()
        events = super().select(timeout)
        self._idle.seconds += time.monotonic() - before
        return events
