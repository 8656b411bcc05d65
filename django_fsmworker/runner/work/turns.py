"""The lines in which claimed rows of one kind of check wait: one a model, served in turn."""

from __future__ import annotations

import queue
import threading
from typing import Any

from django_fsmworker.runner.work.batch import Work


class Turns:
    """Any number of threads may put and take; the usual row passes without a lock.

    A batch of rows stands in line as one, and has one turn.
    """

    def __init__(self) -> None:
        self._lines: dict[Any, queue.SimpleQueue[Work]] = {}
        self._turns: list[queue.SimpleQueue[Work]] = []
        self._turn = 0
        # One ticket for each row in any line, to wait for; False tells a thread to end.
        self._tickets: queue.SimpleQueue[bool] = queue.SimpleQueue()
        # What runs again in halves: it was in line before, and takes the room of nobody new.
        self._again: set[Work] = set()
        self._new_line = threading.Lock()
        self.level = -1

    @property
    def waiting(self) -> int:
        """How much is in line for the first time."""
        return self._tickets.qsize() - len(self._again)

    def put(self, work: Work) -> None:
        """To the end of its model's line; the ticket last, so that who has one finds a row."""
        line = self._lines.get(work.model)
        if line is None:
            with self._new_line:
                line = self._lines.setdefault(work.model, queue.SimpleQueue())
                self._turns = list(self._lines.values())
        if work.stale:
            self._again.add(work)
        line.put(work)
        self._tickets.put(True)

    def next(self, timeout: float) -> Work | None:
        """The row whose turn it is; ``queue.Empty`` after ``timeout`` seconds, None if woken."""
        return self._of_next_line() if self._tickets.get(timeout=timeout) else None

    def runs_low(self) -> bool:
        """Whether no more than ``level`` wait by now; said once for each level set."""
        if self._tickets.qsize() - len(self._again) > self.level:
            return False
        self.level = -1
        return True

    def drain(self) -> list[Work]:
        """Take all that wait."""
        rest = []
        while self._take_ticket():
            rest.append(self._of_next_line())
        return rest

    def wake(self, threads: int) -> None:
        """Let so many threads return from ``next``."""
        for _ in range(threads):
            self._tickets.put(False)

    def _of_next_line(self) -> Work:
        """The first row of the next line that has one; only for holders of a ticket."""
        while True:
            turns = self._turns
            turn = self._turn = (self._turn + 1) % len(turns)  # a thread beside may write it, too
            try:
                work = turns[turn].get_nowait()
            except queue.Empty:
                continue
            if work.stale:
                self._again.discard(work)
            return work

    def _take_ticket(self) -> bool:
        try:
            return self._tickets.get_nowait()
        except queue.Empty:
            return False
