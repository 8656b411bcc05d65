"""Which states may have due rows, and from where in their lane to look for them."""

from __future__ import annotations

import bisect
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django_fsmworker.store import Lane

SAFETY_LAG = timedelta(seconds=10)
MOST_TIMES = 100
GRAIN = 0.05
FINE_GRAIN = 0.005


@dataclass(slots=True)
class LaneBook:
    """What is known about one state of one model. Times are ``time.monotonic()`` seconds.

    ``mark`` is the low-water mark: what is due before it has been claimed, as far as this process
    saw. It spares the claim the dead index entries there. It stays a safety lag behind the clock
    for transactions that commit late, and correctness does not rest on it: the lane is scanned
    from its start after every sleep, and every sixth of a lease.

    ``upcoming`` are the due times that settled rows left behind, the earliest hundred of them; what
    is forgotten is found by the next look at the database.
    """

    state: str
    active: bool = True
    upcoming: list[float] = field(default_factory=list)
    mark: datetime | None = None
    scanned: float = float("-inf")
    woken: bool = False

    def lane(self, limit: int, full_scan_every: float) -> Lane:
        """The lane as the next claim should look at it."""
        now = time.monotonic()
        self.woken = False
        if self.mark is None or now - self.scanned >= full_scan_every:
            self.mark, self.scanned = None, now
        return Lane(self.state, limit, self.mark)

    def took(self, rows: list[Any], limit: int, database_now: datetime | None) -> None:
        """Note what a claim found.

        Less than asked means that the lane sleeps until woken, unless it was woken while the claim
        was under way: the row may have come after the claim had looked.
        """
        if len(rows) < limit:
            self.active = self.woken
            self.mark = None
        elif database_now is not None:
            self.mark = min(rows[-1].state_next, database_now - SAFETY_LAG)

    def wake(self, due_in: float) -> None:
        """A row of this state is due in so many seconds."""
        if due_in <= 0:
            self.active = self.woken = True
            return
        # Rounded up, so that a thousand rows with one retry_after are one time; less if it is near.
        grain = GRAIN if due_in > 1 else FINE_GRAIN
        moment = (int((time.monotonic() + due_in) / grain) + 1) * grain
        at = bisect.bisect_left(self.upcoming, moment)
        if at == len(self.upcoming) or self.upcoming[at] != moment:
            self.upcoming.insert(at, moment)
            del self.upcoming[MOST_TIMES:]

    def tick(self, now: float) -> None:
        """Wake up if a row is due by now."""
        passed = bisect.bisect_right(self.upcoming, now)
        if passed:
            del self.upcoming[:passed]
            self.active = self.woken = True

    @property
    def next_due(self) -> float:
        """When it wakes up by itself."""
        return self.upcoming[0] if self.upcoming else float("inf")
