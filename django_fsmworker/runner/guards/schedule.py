"""The schedule by which a state is swept."""

from __future__ import annotations

import time

from django_fsmworker.runner.main_loop import jittered

# After a sweep, the next that is asked for waits this many times as long as that one took: a small
# table is looked at at once, and a large one does not keep its database busy.
REST = 20


class SweepSchedule:
    """A sweep every ``interval`` seconds, the first at once, and sooner if somebody asks.

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
        """The moment at which the next sweep, or the next window of this one, is due."""
        return min(self._next, self._may) if self._asked else self._next

    def ask(self) -> None:
        """Ask for a sweep as soon as there may be one, since rows may have come; on any thread."""
        self._asked = True

    def begin(self) -> None:
        """Begin a sweep; what is asked from here on is for the one after it."""
        self._asked = False
        self._began, self._busy = time.monotonic(), 0.0

    def worked(self, seconds: float) -> None:
        """Add the seconds that one window of the sweep took."""
        self._busy += seconds

    def end(self) -> None:
        """End a sweep, and set when the next one may begin."""
        now = time.monotonic()
        self._may = now + REST * self._busy
        self._next = max(self._began + jittered(self._interval), now + self._busy)

    def rest_until(self, moment: float) -> None:
        """Go on at ``moment``, since the database is away or busy."""
        self._next = self._may = moment
