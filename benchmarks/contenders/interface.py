"""What the race asks of everybody who takes part in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from benchmarks import costs
from benchmarks.processes import Worker


class Contender(ABC):
    """Fills a store with work, and starts what does it."""

    name: str
    settings: str = "default"
    peer = False
    # The database where its work lies.
    url: str

    @abstractmethod
    def prepare(self, number: int) -> Sequence[int]:
        """Lay out `number` pieces of work, all due; returns the key that each one notes."""

    @abstractmethod
    def start(self, folder: Path) -> Worker:
        """Start the worker, whose logs and output go into `folder`."""

    @abstractmethod
    def left(self) -> int:
        """How many of the prepared pieces the store does not hold as finished."""

    @abstractmethod
    def hand_over(self, number: int, seconds: float) -> dict[int, float]:
        """
        Make `number` more pieces one by one, so far apart, while a worker runs.

        Returns for each key the moment, in the monotonic clock, from which on the worker is late:
        when the call that made the piece came back, or when the piece became due.
        """

    def meanwhile(self) -> AbstractContextManager[object]:
        """What else goes on in the database while it works."""
        return nullcontext()

    def counters(self) -> costs.Counters:
        """What the database has counted so far."""
        return costs.counters(self.url)

    def transactions_so_far(self) -> float:
        """Those that the database has counted while a worker runs."""
        return costs.transactions_so_far(self.url)
