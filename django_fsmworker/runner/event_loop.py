"""One event loop on a thread of its own, and the attempts that run on it."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from django_fsmworker.exceptions import TimeoutError
from django_fsmworker.runner.attempt import Attempt
from django_fsmworker.runner.call_threads import CallThreads
from django_fsmworker.runner.calls import OF_THIS_CHECK, Calls, DefaultExecutor
from django_fsmworker.runner.concluding import LEFT_OPEN, Losses, concluded, failed_attempt
from django_fsmworker.runner.interrupting import finish, flag_as, log_interrupted
from django_fsmworker.runner.judging import judge_async
from django_fsmworker.store.failures import Failure
from django_fsmworker.store.outcomes import Outcome

logger = logging.getLogger(__name__)

LONGEST_GOODBYE = 1.0
SHORTEST_BLOCK = 0.1

OnEnd = Callable[[Attempt, Outcome | None], None]


@dataclass(slots=True)
class Running:
    """One attempt on the loop."""

    task: asyncio.Task[None]
    calls: Calls
    deadline: asyncio.TimerHandle
    begun: bool = False


class EventLoop(threading.Thread):
    """Runs coroutines side by side, each with its deadline. Being a daemon, it may be left behind.

    ``begin`` and ``end`` are called by other threads; what begins with an underscore runs here.
    """

    def __init__(
        self,
        number: int,
        threads: CallThreads,
        losses: Losses,
        deadline: float,
        abandon_after: float,
        on_end: OnEnd,
        on_abandon: Callable[[Attempt], None],
    ) -> None:
        super().__init__(name=f"fsmworker-loop-{number}", daemon=True)
        self._threads = threads
        self._losses = losses
        self._default_deadline = deadline
        self._abandon_after = abandon_after
        self._on_end = on_end
        self._on_abandon = on_abandon
        self._inbox: deque[Attempt] = deque()
        self._woken = False
        self._running: dict[Attempt, Running] = {}
        self._last = False
        self._asked: float | None = None
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(DefaultExecutor(threads))

    def begin(self, attempt: Attempt) -> None:
        """Run its check; many that come at once wake the loop once."""
        self._inbox.append(attempt)
        if not self._woken:
            self._woken = True
            with suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._begin_all)

    def end(self, attempt: Attempt, flag: str) -> bool:
        """Interrupt a check; False if it had ended."""
        if not flag_as(attempt, flag):
            return False
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._cancel, attempt)
        log_interrupted(attempt, flag)
        return True

    def finish(self) -> None:
        """End the thread as soon as nothing runs on it."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._finish)

    def running(self) -> list[Attempt]:
        """What it runs."""
        return list(self._running)

    def silent_for(self) -> float:
        """Ask for a sign of life; how long it has owed one since it was asked before."""
        asked = self._asked
        if asked is None:
            asked = self._asked = time.monotonic()
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._answer)
        return time.monotonic() - asked

    def what_runs(self) -> tuple[Attempt | None, str]:
        """The attempt in whose code the loop is right now, if it can be told, and where it is."""
        task = asyncio.current_task(self._loop)
        frame = sys._current_frames().get(self.ident or 0)
        place = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "an unknown place"
        for attempt, running in tuple(self._running.items()):
            if running.task is task:
                return attempt, place
        # A task that a check has started has its context; Python 3.11 does not tell.
        context = getattr(task, "get_context", contextvars.Context)()
        calls = context.get(OF_THIS_CHECK)
        return calls.attempt if calls else None, place

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            while not self._last or self._running:
                try:
                    self._loop.run_forever()
                except (SystemExit, KeyboardInterrupt, TimeoutError) as error:
                    # From a task that a check started, or injected a moment too late.
                    logger.warning("A task ended with %r.", error, extra={"action": "task"})
            self._cancel_leftovers()
        finally:
            self._loop.close()

    def _begin_all(self) -> None:
        self._woken = False
        while self._inbox:
            self._begin(self._inbox.popleft())

    def _begin(self, attempt: Attempt) -> None:
        attempt.started = time.monotonic()
        calls = Calls(self._threads, attempt)
        deadline = attempt.state.deadline or self._default_deadline
        self._running[attempt] = Running(
            self._loop.create_task(self._run(attempt, calls), context=contextvars.Context()),
            calls,
            self._loop.call_later(deadline, self._overdue, attempt, self._loop.time() + deadline),
        )

    async def _run(self, attempt: Attempt, calls: Calls) -> None:
        """One attempt from its start to its outcome; its flags say whether it was interrupted."""
        outcome = None
        self._running[attempt].begun = True
        try:
            if not attempt.cancelled:
                outcome = await self._judge(attempt, calls)
        except BaseException as error:
            # Whatever it is, every row that was taken is settled.
            logger.exception("A check could not be judged.", extra={"action": "judge"})
            outcome = failed_attempt(attempt, Failure.of(error))
        if calls.pending:
            await calls.ended()
        finish(attempt)
        calls.close()
        self._running.pop(attempt).deadline.cancel()
        self._on_end(attempt, concluded(attempt, outcome))
        if self._last:
            self._finish()

    async def _judge(self, attempt: Attempt, calls: Calls) -> Outcome | None:
        calls.enter()
        outcome = await judge_async(attempt.row, attempt.age(attempt.started or 0.0))
        if outcome.failure is not None and calls.lost and self._losses.is_outage(attempt):
            return None  # the database went away under the check: interrupted, not failed
        if outcome.failure is None and calls.left_open:
            return failed_attempt(attempt, LEFT_OPEN)
        return outcome

    def _overdue(self, attempt: Attempt, due: float) -> None:
        """Its deadline has passed; time in which another had the loop does not count, once."""
        late = self._loop.time() - due
        if late <= SHORTEST_BLOCK:
            self.end(attempt, "overran")
        else:
            self._running[attempt].deadline = self._loop.call_later(
                late, self.end, attempt, "overran"
            )

    def _cancel(self, attempt: Attempt) -> None:
        running = self._running.get(attempt)
        if running is not None:
            if running.begun:  # cancelled before, it would end without a word
                running.task.cancel()
            running.calls.interrupt()
            self._loop.call_later(self._abandon_after, self._abandon, attempt)

    def _abandon(self, attempt: Attempt) -> None:
        running = self._running.get(attempt)
        if running is not None:
            running.calls.abandon()
            self._on_abandon(attempt)

    def _answer(self) -> None:
        self._asked = None

    def _finish(self) -> None:
        self._last = True
        if not self._running:
            self._loop.stop()

    def _cancel_leftovers(self) -> None:
        """What checks started and left behind."""
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.wait(tasks, timeout=LONGEST_GOODBYE))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
