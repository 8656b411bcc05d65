"""How many more rows a process should hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.graph import State
from django_fsmworker.runner.guards.guarding import Guarding
from django_fsmworker.runner.work.holdings import Holdings
from django_fsmworker.runner.work.ready import ReadyQueue
from django_fsmworker.runner.work.throughput import Throughput


class Room:
    """Counted in places: what one call of a check takes, be it for one row or for a batch.

    Sync and async checks have room of their own, told apart by ``kind``: whether they are async.
    """

    def __init__(
        self,
        settings: RunnerSettings,
        holdings: Holdings,
        ready: ReadyQueue | Guarding,
        throughputs: Mapping[bool, Throughput],
    ) -> None:
        self._settings = settings
        self._holdings = holdings
        self._ready = ready
        self._throughputs = throughputs

    def of_kind(self, kind: bool) -> int:
        """How many places are left; none while as many rows as allowed are held, however few calls
        they make.
        """
        free = self._throughputs[kind].target - self._holdings.held(kind)
        return min(free, self._rows_left(kind))

    def of_model(self, model: Any, kind: bool, sharing: int) -> int:
        """What ``model`` may fill if so many share it; none until a worthwhile number fits."""
        if self._ready.waiting(kind) > self.low_water(kind):
            return 0
        share = -(-self.of_kind(kind) // max(1, sharing))
        cap = self._settings.concurrency_per_model
        if cap is not None:
            share = min(share, 2 * cap - self._holdings.count(model))
        return min(share, self._settings.claim_batch)

    def rows_of(self, states: Sequence[State], kind: bool, room: int) -> list[int]:
        """How many rows of each state fill so many places, which they share equally."""
        share = room // len(states)
        most = min(self._settings.claim_batch, self._rows_left(kind)) // len(states)
        return [max(share, min(share * (state.batch or 1), most)) for state in states]

    def low_water(self, kind: bool) -> int:
        """Once no more than this waits to be run, it is time for more."""
        return self._throughputs[kind].target // 2

    def _rows_left(self, kind: bool) -> int:
        return self._throughputs[kind].most - self._holdings.rows(kind)
