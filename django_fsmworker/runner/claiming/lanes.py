"""Which states may have due rows, and from where in their lane to look for them."""

from __future__ import annotations

import bisect
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django_fsmworker.store import Lane

SAFETY_LAG = timedelta(seconds=10)
DOUBT = 1.0
MOST_TIMES = 100
GRAIN = 0.05
FINE_GRAIN = 0.005


@dataclass(slots=True)
class LaneBook:
    """What is known about one state of one model. Times are ``time.monotonic()`` seconds.

    ``mark`` is the low-water mark: what is due before it has been claimed, as far as this process
    saw. It spares the claim the dead index entries there. It stays a safety lag behind the clock
    for transactions that commit late, and correctness does not rest on it: the lane is scanned
    from its start every sixth of a lease, and, once a second at the most, when a look from the mark
    found nothing: what woke the lane may lie below, or the database's clock was put back.

    ``upcoming`` are the due times that settled rows left behind, the earliest hundred of them; what
    is forgotten is found by the next look at the database.
    """

    state: str
    active: bool = True
    upcoming: list[float] = field(default_factory=list)
    mark: datetime | None = None
    asked: float = float("-inf")
    scanned: float = float("-inf")
    from_start: bool = True
    doubtful: bool = False
    woken: bool = False

    def lane(self, limit: int, full_scan_every: float) -> Lane:
        """The lane as the next claim should look at it."""
        self.asked = now = time.monotonic()
        self.woken = False
        patience = min(DOUBT, full_scan_every) if self.doubtful else full_scan_every
        self.from_start = self.mark is None or now - self.scanned >= patience
        return Lane(self.state, limit, None if self.from_start else self.mark)

    def took(self, rows: list[Any], limit: int, database_now: datetime | None) -> None:
        """Note what a claim found.

        Less than asked means that the lane sleeps until woken, unless it was woken while the claim
        was under way: the row may have come after the claim had looked.
        """
        if self.from_start:
            self.scanned = self.asked
        self.doubtful = not (rows or self.from_start)
        self.active = self.woken or len(rows) == limit
        if database_now is not None:
            self.mark = database_now - SAFETY_LAG
            if len(rows) == limit:
                self.mark = min(self.mark, rows[-1].state_next)
        if self.doubtful:
            self.wake(self.scanned + DOUBT - time.monotonic())

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
