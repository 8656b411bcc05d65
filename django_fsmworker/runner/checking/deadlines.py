"""Sees to it that no check runs longer than it may."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from django_fsmworker.runner.async_checks.pool import AsyncPool
from django_fsmworker.runner.checking.pool import CheckThread, Pool
from django_fsmworker.runner.judging.interrupting import interrupt, log_interrupted
from django_fsmworker.runner.settling.concluding import Losses
from django_fsmworker.runner.work.batch import Work

logger = logging.getLogger(__name__)


class Deadlines(threading.Thread):
    """Interrupts checks that overrun, and gives up threads that do not notice.

    It wakes up at the earliest deadline of what runs, and at half the shortest deadline there is,
    so that a check which starts meanwhile is seen in time: starting one costs nothing here. Async
    checks have timers on their loop; here it is only seen to that the loop comes round.
    """

    def __init__(
        self,
        pool: Pool,
        async_pool: AsyncPool,
        losses: Losses,
        default: float,
        shortest: float,
        abandon_after: float,
        on_abandon: Callable[[Work], None],
    ) -> None:
        super().__init__(name="fsmworker-deadlines", daemon=True)
        self._pool = pool
        self._async_pool = async_pool
        self._losses = losses
        self._default = default
        self._longest_sleep = shortest / 2
        self._abandon_after = abandon_after
        self._on_abandon = on_abandon
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(self._look_safely()):
            pass

    def _look_safely(self) -> float:
        try:
            return self._look()
        except Exception:
            logger.exception("Looking after deadlines failed.", extra={"action": "deadlines"})
            return self._longest_sleep

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def _look(self) -> float:
        """Do what is due; returns the seconds until something is again."""
        now = time.monotonic()
        sleep = min(self._longest_sleep, self._async_pool.look())
        for thread, work in self._pool.running():
            if work.started is None or thread.abandoned:
                continue
            if thread.given_up_at is not None:
                left = thread.given_up_at - now
                if left <= 0:
                    left = self._give_up(thread, work)
            else:
                left = self._losses.seconds_left(work, work.state.deadline or self._default)
                if left <= 0:
                    self.end(thread, work, self._losses.why_ended(work))
                    left = self._abandon_after
            sleep = min(sleep, left)
        return max(sleep, 0.001)

    def end(self, thread: CheckThread, work: Work, flag: str) -> None:
        """Interrupt a check; if its thread has not noticed after a while it is abandoned."""
        if interrupt(work, thread.ident or 0, thread.connections, flag):
            thread.given_up_at = time.monotonic() + self._abandon_after
            log_interrupted(work, flag)

    def _give_up(self, thread: CheckThread, work: Work) -> float:
        """It did not notice: it may wait for a server that is gone. Then it is stuck elsewhere."""
        if not thread.cut and thread.connections is not None and thread.connections.cut():
            thread.cut = True
            thread.given_up_at = time.monotonic() + self._abandon_after
            return self._abandon_after
        self._abandon(thread, work)
        return self._longest_sleep

    def _abandon(self, thread: CheckThread, work: Work) -> None:
        self._pool.abandon(thread, work)
        if not thread.abandoned:
            return
        logger.error(
            "The check of %s %s does not end; its thread %s is abandoned (%d so far).",
            work.model._meta.label,
            work.pk,
            thread.name,
            self._pool.abandoned,
            extra={"action": "abandoned", "model": work.model._meta.label, "pk": work.pk},
        )
        self._on_abandon(work)


def shortest_deadline(models: Iterable[Any], default: float) -> float:
    """The shortest there is among the states of ``models``."""
    states = [state for model in models for state in model.state_graph.states.values()]
    own: list[float] = [state.deadline for state in states if state.deadline is not None]
    return min([default, *own])
