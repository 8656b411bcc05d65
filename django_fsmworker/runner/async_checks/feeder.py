"""The thread that hands rows with an async check to the event loop, as slots come free."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from django.db import Error

from django_fsmworker.runner.claiming.suspects import examine_if_possible
from django_fsmworker.runner.database.backing_off import Backoffs
from django_fsmworker.runner.database.connections import LONGEST_IDLE, ThreadConnections
from django_fsmworker.runner.database.outages import Outages
from django_fsmworker.runner.judging.loading_again import load_again
from django_fsmworker.runner.settling.concluding import of_failure
from django_fsmworker.runner.work.attempt import Attempt
from django_fsmworker.runner.work.batch import Result, Work
from django_fsmworker.runner.work.ready import ReadyQueue
from django_fsmworker.store.failures import Failure

logger = logging.getLogger(__name__)


class Feeder(threading.Thread):
    """Waits where a loop must not: for a slot, a row, the end of a suspect, the database."""

    def __init__(
        self,
        ready: ReadyQueue,
        slots: threading.Semaphore,
        begin: Callable[[Work], None],
        pass_on: Callable[[Work, Result], None],
        worker: str,
        outages: Outages,
    ) -> None:
        super().__init__(name="fsmworker-feeder", daemon=True)
        self._ready = ready
        self._slots = slots
        self._begin = begin
        self._pass_on = pass_on
        self._worker = worker
        self._backoffs = Backoffs(outages)

    def run(self) -> None:
        connections = ThreadConnections(beside_pool=True)
        try:
            while not self._ready.closed:
                self._slots.acquire()
                work = self._ready.take(LONGEST_IDLE, is_async=True)
                if work is None:
                    connections.close()
                    self._slots.release()
                elif not (work.suspect or work.stale):
                    self._begin(work)
                else:
                    self._begin_with_a_past(work)
                    connections.after_attempt()
        finally:
            connections.close()

    def _begin_with_a_past(self, work: Work) -> None:
        """What has to be read or noted in the database first may show that it is not to be run."""
        work.started = time.monotonic()
        backoff = self._backoffs[work.store.alias]
        try:
            with backoff.asking():
                runs, result = self._look_back(work)
            backoff.succeeded()
        except Error as error:
            backoff.failed(error)
            logger.warning("%s", error, extra={"action": "examine", "pk": work.pk})
            runs, result = False, None
        except Exception as error:  # a row that cannot be loaded
            logger.exception("A check could not be judged.", extra={"action": "judge"})
            runs, result = False, of_failure(work, Failure.of(error))
        if runs:
            self._begin(work)
        else:
            self._end(work, result)

    def _look_back(self, work: Work) -> tuple[bool, Result]:
        """Whether it is to be run, or else what it comes to.

        Rows that a batch had before are loaded again; of a suspect it is noted that the process may
        die, and one with too many deaths is not run.
        """
        if work.stale and not load_again(work, self._pass_on):
            return False, None
        if not work.suspect:
            return True, None
        assert isinstance(work, Attempt) and work.started is not None
        verdict = examine_if_possible(work, work.age(work.started), self._worker)
        return verdict is None, verdict

    def _end(self, work: Work, result: Result) -> None:
        work.finished = True
        self._pass_on(work, result)
        self._ready.done(work)
        self._slots.release()
