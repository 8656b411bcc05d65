"""Rows that are due again at once stay in the same hands: one write, not a settling and a claim.

Each step is a fenced transition of its own, under a token of its own. How long one row may go on is
bounded by steps and by time, so that other rows get their turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django_fsmworker.graph import State
from django_fsmworker.models.keys import key_of
from django_fsmworker.runner.work.attempt import Attempt, share_of
from django_fsmworker.store import Kind, Outcome, Store

MOST_STEPS = 50

Pair = tuple[Attempt, Outcome]


class RunOn:
    """Tells which rows go on, and writes those."""

    def __init__(self, lease: float, allowed: Callable[[], bool]) -> None:
        self._lease = lease
        self._allowed = allowed

    def parted(self, pairs: list[Pair]) -> tuple[list[Pair], list[Pair]]:
        """Those that go on, and the others."""
        if not self._allowed():
            return [], pairs
        onward: list[Pair] = []
        others: list[Pair] = []
        for pair in pairs:
            (onward if self._goes_on(*pair) else others).append(pair)
        return onward, others

    def write(self, store: Store, model: Any, pairs: list[Pair]) -> list[Attempt]:
        """Write the transitions; returns the attempts at the next step, for the rows it changed."""
        sent = time.monotonic()
        rows = store.advance(model, [outcome for _, outcome in pairs], self._lease)
        earlier = {attempt.pk: attempt for attempt, _ in pairs}
        return [self._next(earlier[key_of(row)], row, sent) for row in rows]

    def _goes_on(self, attempt: Attempt, outcome: Outcome) -> bool:
        """A healthy row that moved into a state whose check is due now, for this row alone."""
        return (
            outcome.kind is Kind.MOVED
            and outcome.delay == 0
            and not attempt.suspect
            and not attempt.row.__dict__["state_failures"]
            and attempt.steps < MOST_STEPS
            and self._has_only_a_check(attempt.state.graph.states[outcome.target])
            and time.monotonic() - attempt.began < self._lease
        )

    @staticmethod
    def _has_only_a_check(state: State) -> bool:
        """Guards are asked, and batches formed, of many rows at once, after a claim."""
        return state.checked and state.batch is None and not state.guards

    def _next(self, earlier: Attempt, row: Any, sent: float) -> Attempt:
        values = row.__dict__
        state = earlier.state.graph.states[values["state"]]
        return Attempt(
            earlier.store,
            row,
            earlier.pk,
            values["state_claim"],
            state,
            state.is_async,
            share_of(state),
            0.0,  # its age
            sent,
            sent + self._lease,
            earlier.began,
            earlier.steps + 1,
        )
