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
from django_fsmworker.runner.async_checks.call_threads import CallThreads
from django_fsmworker.runner.async_checks.calls import OF_THIS_CHECK, Calls, DefaultExecutor
from django_fsmworker.runner.judging.interrupting import finish, flag_as, log_interrupted
from django_fsmworker.runner.judging.many import judge_batch_async
from django_fsmworker.runner.judging.one import judge_async
from django_fsmworker.runner.settling.concluding import (
    LEFT_OPEN,
    Losses,
    concluded,
    failed_attempt,
    of_failure,
)
from django_fsmworker.runner.settling.concluding_batches import came_to
from django_fsmworker.runner.work.batch import Batch, Result, Work
from django_fsmworker.store.failures import Failure

logger = logging.getLogger(__name__)

LONGEST_GOODBYE = 1.0
SHORTEST_BLOCK = 0.1

OnEnd = Callable[[Work, Result], None]


@dataclass(slots=True)
class Running:
    """One check on the loop: of a row, or of a batch of them."""

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
        on_abandon: Callable[[Work], None],
    ) -> None:
        super().__init__(name=f"fsmworker-loop-{number}", daemon=True)
        self._threads = threads
        self._losses = losses
        self._default_deadline = deadline
        self._abandon_after = abandon_after
        self._on_end = on_end
        self._on_abandon = on_abandon
        self._inbox: deque[Work] = deque()
        self._woken = False
        self._running: dict[Work, Running] = {}
        self._last = False
        self._asked: float | None = None
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(DefaultExecutor(threads))

    def begin(self, work: Work) -> None:
        """Run its check; many that come at once wake the loop once."""
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
        log_interrupted(work, flag)
        return True

    def finish(self) -> None:
        """End the thread as soon as nothing runs on it."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._finish)

    def running(self) -> list[Work]:
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

    def what_runs(self) -> tuple[Work | None, str]:
        """The work in whose code the loop is right now, if it can be told, and where it is."""
        task = asyncio.current_task(self._loop)
        frame = sys._current_frames().get(self.ident or 0)
        place = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "an unknown place"
        for work, running in tuple(self._running.items()):
            if running.task is task:
                return work, place
        # A task that a check has started has its context; Python 3.11 does not tell.
        context = getattr(task, "get_context", contextvars.Context)()
        calls = context.get(OF_THIS_CHECK)
        return calls.work if calls else None, place

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

    def _begin(self, work: Work) -> None:
        work.started = time.monotonic()
        calls = Calls(self._threads, work)
        self._running[work] = Running(
            self._loop.create_task(self._run(work, calls), context=contextvars.Context()),
            calls,
            self._expect_end(work, self._deadline_of(work)),
        )

    async def _run(self, work: Work, calls: Calls) -> None:
        """One check from its start to what it came to; its flags say if it was interrupted."""
        result: Result = None
        self._running[work].begun = True
        try:
            if not work.cancelled:
                result = await self._judge(work, calls)
        except BaseException as error:
            # Whatever it is, every row that was taken is settled.
            logger.exception("A check could not be judged.", extra={"action": "judge"})
            result = of_failure(work, Failure.of(error))
        if calls.pending:
            await calls.ended()
        finish(work)
        calls.close()
        self._running.pop(work).deadline.cancel()
        self._on_end(work, concluded(work, result))
        if self._last:
            self._finish()

    async def _judge(self, work: Work, calls: Calls) -> Result:
        calls.enter()
        if isinstance(work, Batch):
            return await self._judge_batch(work, calls)
        outcome = await judge_async(work.row, work.age(work.started or 0.0))
        failure = outcome.failure
        if failure is None or not (calls.lost or self._losses.explains(work, failure)):
            self._losses.forget(work)
        elif self._losses.is_outage(work):
            return None  # the database went away under the check: interrupted, not failed
        if failure is None and calls.left_open:
            return failed_attempt(work, LEFT_OPEN)
        return outcome

    async def _judge_batch(self, batch: Batch, calls: Calls) -> Result:
        ages = [each.age(batch.started or 0.0) for each in batch.attempts]
        judged = await judge_batch_async([each.row for each in batch.attempts], ages)
        return came_to(batch, judged, self._losses, lambda: calls.lost, lambda: calls.left_open)

    def _overdue(self, work: Work, due: float) -> None:
        """Its deadline has passed; time in which another had the loop does not count, once."""
        late = self._loop.time() - due
        left = self._losses.seconds_left(work, self._deadline_of(work))
        if late > SHORTEST_BLOCK:
            self._running[work].deadline = self._loop.call_later(late, self._end, work)
        elif left > 0:
            self._running[work].deadline = self._expect_end(work, left)
        else:
            self._end(work)

    def _end(self, work: Work) -> None:
        self.end(work, self._losses.why_ended(work))

    def _expect_end(self, work: Work, within: float) -> asyncio.TimerHandle:
        return self._loop.call_later(within, self._overdue, work, self._loop.time() + within)

    def _deadline_of(self, work: Work) -> float:
        return work.state.deadline or self._default_deadline

    def _cancel(self, work: Work) -> None:
        running = self._running.get(work)
        if running is not None:
            if running.begun:  # cancelled before, it would end without a word
                running.task.cancel()
            running.calls.interrupt()
            self._loop.call_later(self._abandon_after, self._abandon, work)

    def _abandon(self, work: Work) -> None:
        running = self._running.get(work)
        if running is not None:
            running.calls.abandon()
            self._on_abandon(work)

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
