"""How many rows to hold: what the threads run, and a prefetch sized from the measured rate."""

from __future__ import annotations

import random
import time


class Throughput:
    """The target for rows in hand; nothing that is claimed should wait a quarter of its lease."""

    def __init__(self, concurrency: int, most: int, lease: float) -> None:
        self._concurrency = concurrency
        self._most = max(most, concurrency)
        self._lease = lease
        self._rate = 0.0
        self._seen = 0
        self._at = time.monotonic()
        self.target = min(2 * concurrency, self._most)

    def measured(self, settled: int) -> None:
        """So many rows have been settled in all so far."""
        now = time.monotonic()
        elapsed = now - self._at
        if settled == self._seen or elapsed <= 0:
            return
        rate = (settled - self._seen) / elapsed
        self._rate = rate if not self._rate else (self._rate + rate) / 2
        self._seen, self._at = settled, now
        wanted = self._concurrency + int(self._rate * self._lease / 4)
        # Grow by doubling: the first rows may be quicker than those that follow.
        self.target = max(self._concurrency, min(wanted, 2 * self.target, self._most))

    @staticmethod
    def jittered(seconds: float) -> float:
        """A little less, so that a fleet does not look all at once."""
        return seconds * random.uniform(0.8, 1.0)
