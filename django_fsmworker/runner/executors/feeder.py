"""The thread that hands rows with async checks to the event loop, as slots come free."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from django.db import Error

from django_fsmworker.logs import logger_for
from django_fsmworker.runner.database.connections import LONGEST_IDLE, ThreadConnections
from django_fsmworker.runner.database.outages import OutageTracker, QueryGuards
from django_fsmworker.runner.execution.attempt_log import AttemptLog
from django_fsmworker.runner.execution.check_run import reload
from django_fsmworker.runner.execution.outcomes import error_result
from django_fsmworker.runner.execution.suspects import examine
from django_fsmworker.runner.executors.slots import Slots
from django_fsmworker.runner.in_flight.attempts import Result, Work, work_fields
from django_fsmworker.runner.in_flight.queues import OnResult, ReadyQueue

logger = logger_for(__name__)


class Feeder(threading.Thread):
    """A thread that waits where a loop must not: for a slot, a row, a suspect, the database."""

    def __init__(
        self,
        ready: ReadyQueue,
        slots: Slots,
        begin: Callable[[Work], None],
        on_result: OnResult,
        log: AttemptLog,
        outages: OutageTracker,
    ) -> None:
        super().__init__(name="fsmworker-feeder", daemon=True)
        self._ready = ready
        self._slots = slots
        self._begin = begin
        self._on_result = on_result
        self._log = log
        self._query_guards = QueryGuards(outages)
        self._mismatches = outages.mismatches

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
        query_guard = self._query_guards[work.store.alias]
        try:
            with query_guard.asking():
                runs, result = self._look_back(work)
            query_guard.succeeded()
        except Error as error:
            if not self._mismatches.explains(work.store, work.model, error):
                query_guard.failed(error)
                fields = work_fields(work, self._log.worker)
                logger.warning("%s", error, extra={"action": "examine", **fields})
            runs, result = False, None
        except Exception as error:  # a row that cannot be loaded
            runs, result = False, error_result(work, error, self._log)
        if runs:
            self._begin(work)
        else:
            self._end(work, result)

    def _look_back(self, work: Work) -> tuple[bool, Result]:
        """Whether it is to be run, or else what it comes to.

        Rows that a batch had before are loaded again; of suspects it is noted that the process
        may die, and one with too many deaths is not run.
        """
        if work.stale and not reload(work, self._on_result):
            return False, None
        if not work.suspect:
            return True, None
        last = examine(work, self._log.worker)
        return last is None, last

    def _end(self, work: Work, result: Result) -> None:
        work.finished = True
        self._on_result(work, result)
        self._ready.done(work)
        self._slots.release()
