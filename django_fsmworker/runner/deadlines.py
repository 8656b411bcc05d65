"""Sees to it that no check runs longer than it may."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from django_fsmworker.runner.attempt import Attempt
from django_fsmworker.runner.interrupting import interrupt
from django_fsmworker.runner.pool import CheckThread, Pool

logger = logging.getLogger(__name__)


class Deadlines(threading.Thread):
    """Interrupts checks that overrun, and gives up threads that do not notice.

    It wakes up at the earliest deadline of what runs, and at half the shortest deadline there is,
    so that a check which starts meanwhile is seen in time: starting one costs nothing here.
    """

    def __init__(
        self,
        pool: Pool,
        default: float,
        shortest: float,
        abandon_after: float,
        on_abandon: Callable[[Attempt], None],
    ) -> None:
        super().__init__(name="fsmworker-deadlines", daemon=True)
        self._pool = pool
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
        sleep = self._longest_sleep
        for thread, attempt in self._pool.running():
            if attempt.started is None or thread.abandoned:
                continue
            if thread.given_up_at is not None:
                left = thread.given_up_at - now
                if left <= 0:
                    self._abandon(thread, attempt)
                    continue
            else:
                left = attempt.started + (attempt.state.deadline or self._default) - now
                if left <= 0:
                    self.end(thread, attempt, "overran")
                    left = self._abandon_after
            sleep = min(sleep, left)
        return max(sleep, 0.001)

    def end(self, thread: CheckThread, attempt: Attempt, flag: str) -> None:
        """Interrupt a check; if its thread has not noticed after a while it is abandoned."""
        if interrupt(attempt, thread.ident or 0, thread.connections, flag):
            thread.given_up_at = time.monotonic() + self._abandon_after
            logger.warning(
                "The check of %s %s in the state %s %s.",
                attempt.model._meta.label,
                attempt.pk,
                attempt.state,
                "overran its deadline" if flag == "overran" else "was cancelled",
                extra={"action": flag, "model": attempt.model._meta.label, "pk": attempt.pk},
            )

    def _abandon(self, thread: CheckThread, attempt: Attempt) -> None:
        self._pool.abandon(thread, attempt)
        if not thread.abandoned:
            return
        logger.error(
            "The check of %s %s does not end; its thread %s is abandoned (%d so far).",
            attempt.model._meta.label,
            attempt.pk,
            thread.name,
            self._pool.abandoned,
            extra={"action": "abandoned", "model": attempt.model._meta.label, "pk": attempt.pk},
        )
        self._on_abandon(attempt)


def shortest_deadline(default: float, models: Iterable[Any]) -> float:
    """The shortest one that any state of ``models`` has."""
    own: list[float] = [
        state.deadline
        for model in models
        for state in model.state_graph.states.values()
        if state.deadline is not None
    ]
    return min([default, *own])
