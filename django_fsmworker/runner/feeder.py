"""The thread that hands rows with an async check to the event loop, as slots come free."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from django.db import Error

from django_fsmworker.runner.attempt import Attempt
from django_fsmworker.runner.connections import LONGEST_IDLE, ThreadConnections
from django_fsmworker.runner.ready import ReadyQueue
from django_fsmworker.runner.suspects import examine_if_possible
from django_fsmworker.store.outcomes import Outcome

logger = logging.getLogger(__name__)


class Feeder(threading.Thread):
    """Waits where a loop must not: for a slot, a row, the end of a suspect, the database."""

    def __init__(
        self,
        ready: ReadyQueue,
        slots: threading.Semaphore,
        begin: Callable[[Attempt], None],
        settle: Callable[[Attempt, Outcome | None], None],
        worker: str,
    ) -> None:
        super().__init__(name="fsmworker-feeder", daemon=True)
        self._ready = ready
        self._slots = slots
        self._begin = begin
        self._settle = settle
        self._worker = worker

    def run(self) -> None:
        connections = ThreadConnections()
        try:
            while not self._ready.closed:
                self._slots.acquire()
                attempt = self._ready.take(LONGEST_IDLE, is_async=True)
                if attempt is None:
                    connections.close()
                    self._slots.release()
                elif not attempt.suspect:
                    self._begin(attempt)
                else:
                    self._begin_suspect(attempt)
                    connections.after_attempt()
        finally:
            connections.close()

    def _begin_suspect(self, attempt: Attempt) -> None:
        """Note the death it may bring first; a row with too many is not run."""
        attempt.started = time.monotonic()
        try:
            verdict = examine_if_possible(attempt, attempt.age(attempt.started), self._worker)
        except Error as error:
            logger.warning("%s", error, extra={"action": "examine", "pk": attempt.pk})
            self._end(attempt, None)
        else:
            if verdict is None:
                self._begin(attempt)
            else:
                self._end(attempt, verdict)

    def _end(self, attempt: Attempt, outcome: Outcome | None) -> None:
        attempt.finished = True
        self._settle(attempt, outcome)
        self._ready.done(attempt)
        self._slots.release()
