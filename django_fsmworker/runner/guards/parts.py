"""What a runner has for guards: nothing, where none of its models has any."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django_fsmworker.runner.counters import Counters
from django_fsmworker.runner.database.outages import Outages
from django_fsmworker.runner.guards.guarding import Guarding, Settle
from django_fsmworker.runner.guards.sweeping import Sweeping
from django_fsmworker.runner.work.ready import ReadyQueue
from django_fsmworker.store import Outcome, Store

STOP_PATIENCE = 5.0


class GuardParts:
    """Two threads: one asks about rows just claimed, one sweeps states that have no check.

    ``line`` is where claims put their rows: the queue itself, unless a claimed row may have guards.
    """

    def __init__(
        self,
        stores: Mapping[Any, Store],
        ready: ReadyQueue,
        settle: Settle,
        counters: Counters,
        outages: Outages,
        worker: str,
        on_due: Callable[[Any, str, float], None],
    ) -> None:
        self._guarding = Guarding(ready, settle, outages) if _have_guards(stores) else None
        self._sweeping = Sweeping(stores, counters, outages, worker, on_due)
        self.line: ReadyQueue | Guarding = self._guarding or ready
        self.threads: list[Guarding | Sweeping] = []

    def sweep_once(self, stopping: Callable[[], bool]) -> None:
        """Sweep each state on the calling thread, unless ``stopping()``; for a single pass."""
        self._sweeping.sweep_once(stopping)

    def start(self, single_pass: bool) -> None:
        """Begin; a single pass has swept already."""
        if self._guarding is not None:
            self.threads.append(self._guarding)
        if self._sweeping.models and not single_pass:
            self.threads.append(self._sweeping)
        for thread in self.threads:
            thread.start()

    def stop_sweeping(self) -> None:
        """Begin with no further window."""
        self._sweeping.stop()

    def stop(self) -> None:
        """End both; rows without an answer are handed back."""
        self._sweeping.stop()
        if self._guarding is not None:
            self._guarding.stop(STOP_PATIENCE)
        if self._sweeping.is_alive():
            self._sweeping.join(STOP_PATIENCE)

    def settled(self, model: Any, outcomes: list[Outcome]) -> None:
        """These rows were written; some may have come into a state that is swept."""
        if model in self._sweeping.models:
            self._sweeping.entered(model, {each.target for each in outcomes if each.moved})

    def hinted(self, model: Any) -> None:
        """Another process says that rows have come into a state that is swept."""
        self._sweeping.hinted(model)


def _have_guards(models: Mapping[Any, Store]) -> bool:
    return any(state.guards for model in models for state in model.state_graph.states.values())
