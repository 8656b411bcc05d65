"""How many rows of one kind of check to hold: what runs, and a prefetch by the measured rate."""

from __future__ import annotations

import random
import time

SHORTEST_MEASURE = 0.05
HORIZON = 1.0


class Throughput:
    """The target for what is in hand: places, of which a batch of rows takes one; see ``Room``.

    The prefetch is a second of work at the measured rate, and never more than a quarter of a lease:
    rows that wait here could run elsewhere, and all of them become suspects if this process dies.
    """

    def __init__(self, concurrency: int, most: int, lease: float) -> None:
        self._concurrency = concurrency
        self.most = max(most, concurrency)
        self._horizon = min(HORIZON, lease / 4)
        self._seen = 0.0
        self._at = time.monotonic()
        self.target = min(2 * concurrency, self.most)

    def measured(self, settled: float) -> None:
        """So many places' worth of rows have been settled in all so far."""
        now = time.monotonic()
        if settled == self._seen:
            self._at = max(self._at, now - HORIZON)  # an idle time says nothing about the rate
            return
        elapsed = now - self._at
        if elapsed < SHORTEST_MEASURE:
            return
        rate = (settled - self._seen) / elapsed
        self._seen, self._at = settled, now
        wanted = self._concurrency + max(self._concurrency, int(rate * self._horizon))
        self.target = min(wanted, self.most)

    @staticmethod
    def jittered(seconds: float) -> float:
        """A little less, so that a fleet does not look all at once."""
        return seconds * random.uniform(0.8, 1.0)
