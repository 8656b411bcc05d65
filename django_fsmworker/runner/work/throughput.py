"""How many rows of one kind of check to hold: what runs, and a prefetch by the measured rate."""

from __future__ import annotations

import random
import time

# Seconds, unless a whole target's worth was settled sooner: then it grows at once, by so much at
# the most, since it is little to go by.
SHORTEST_MEASURE = 0.05
MOST_GROWTH = 10
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
        done, elapsed = settled - self._seen, now - self._at
        if elapsed <= 0 or (elapsed < SHORTEST_MEASURE and done < self.target):
            return
        self._seen, self._at = settled, now
        ahead = max(self._concurrency, int(done / elapsed * self._horizon))
        self.target = min(self._concurrency + ahead, MOST_GROWTH * self.target, self.most)

    @staticmethod
    def jittered(seconds: float) -> float:
        """A little less, so that a fleet does not look all at once."""
        return seconds * random.uniform(0.8, 1.0)
