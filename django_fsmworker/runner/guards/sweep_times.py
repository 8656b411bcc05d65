"""When a state is swept."""

from __future__ import annotations

import time

from django_fsmworker.runner.work.throughput import Throughput

# A sweep that was asked for rests so many times as long as the last one took, so that a small table
# is looked at at once, and a large one does not keep its database busy.
REST = 20


class SweepTimes:
    """Every ``interval`` seconds, the first time at once, and sooner if somebody asks.

    After a sweep that took long there is at least as long a pause. Times are ``time.monotonic()``.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._next = self._may = float("-inf")
        self._asked = False
        self._began = 0.0
        self._busy = 0.0

    @property
    def due_at(self) -> float:
        """When the next sweep, or the next window of this one, is due."""
        return min(self._next, self._may) if self._asked else self._next

    def ask(self) -> None:
        """Rows may have come: sweep as soon as that may be. Called by any thread."""
        self._asked = True

    def begin(self) -> None:
        """A sweep begins; what is asked from here on is for the one after it."""
        self._asked = False
        self._began, self._busy = time.monotonic(), 0.0

    def worked(self, seconds: float) -> None:
        """So much of it was spent on a window."""
        self._busy += seconds

    def end(self) -> None:
        """It is over."""
        now = time.monotonic()
        self._may = now + REST * self._busy
        self._next = max(self._began + Throughput.jittered(self._interval), now + self._busy)

    def rest_until(self, moment: float) -> None:
        """The database is away, or busy: go on then."""
        self._next = self._may = moment
