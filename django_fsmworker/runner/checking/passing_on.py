"""Where everything goes that was taken from the queue and is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

from django_fsmworker.runner.work.attempt import Attempt
from django_fsmworker.runner.work.batch import Again, Batch, Result, Work, halves
from django_fsmworker.store import Outcome


class PassOn:
    """Rows go to the settler with what they came to, the halves of a batch back to the queue.

    Halves wait for their turn like everything else there: a batch with many failures does not keep
    one thread to itself, and what has not begun is handed back when the runner stops.
    """

    def __init__(
        self,
        settle: Callable[[tuple[Attempt, Outcome | None]], None],
        offer: Callable[[Sequence[Work]], None],
    ) -> None:
        self._settle = settle
        self._offer = offer

    def over(self, work: Work, result: Result) -> None:
        """``work`` came to ``result``; None hands its rows back."""
        if isinstance(work, Batch):
            self._batch_over(work, result)
        else:
            self._settle((work, result))  # type: ignore[arg-type]

    def _batch_over(self, batch: Batch, result: Result) -> None:
        if result is Again.IN_HALVES:
            self._offer(halves(batch))
            return
        outcomes: Any = repeat(None) if result is None else result
        for attempt, outcome in zip(batch.attempts, outcomes, strict=False):
            attempt.finished = batch.finished
            self._settle((attempt, outcome))
