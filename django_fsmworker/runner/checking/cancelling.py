"""Ending checks that run and are of no use any more: their rows moved on, or the runner stops."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django_fsmworker.runner.async_checks.pool import AsyncPool
from django_fsmworker.runner.checking.deadlines import Deadlines
from django_fsmworker.runner.checking.pool import Pool
from django_fsmworker.runner.settling.concluding import of_overrun
from django_fsmworker.runner.work.attempt import Attempt
from django_fsmworker.runner.work.batch import Result, Work

logger = logging.getLogger(__name__)


class Cancelling:
    """Knows what runs, of either kind, and who can end it."""

    def __init__(
        self,
        pool: Pool,
        async_pool: AsyncPool,
        deadlines: Deadlines,
        supersede: Callable[[list[Attempt]], None],
        pass_on: Callable[[Work, Result], None],
    ) -> None:
        self._pool = pool
        self._async_pool = async_pool
        self._deadlines = deadlines
        self._supersede = supersede
        self._pass_on = pass_on

    def lost(self, attempts: list[Attempt]) -> None:
        """These rows are not ours any more: end their checks, but none that others need."""
        if not attempts:
            return
        self._supersede(attempts)
        for work in self._running():
            if work.superseded:
                self._cancel(work)

    def the_rest(self, drain_timeout: float) -> None:
        """The time to drain is over: end what still runs and free its rows, no failure counted."""
        running = self._running()
        for work in running:
            if not work.overran:
                self._cancel(work)
            self._pass_on(work, of_overrun(work) if work.overran else None)
        if running:
            logger.warning(
                "%d checks did not end within the drain timeout of %.0f s; they were interrupted.",
                len(running),
                drain_timeout,
                extra={"action": "drain_timeout"},
            )

    def _running(self) -> list[Work]:
        return [work for _, work in self._pool.running()] + self._async_pool.running()

    def _cancel(self, work: Work) -> None:
        if work.is_async:
            self._async_pool.end(work, "cancelled")
            return
        for thread, running in self._pool.running():
            if running is work:
                self._deadlines.end(thread, work, "cancelled")
