"""Many rows in one call of their check: what takes an attempt's place in a state with ``batch``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Literal, TypeAlias

from django_fsmworker.graph import State
from django_fsmworker.runner.work.attempt import Attempt
from django_fsmworker.store import Outcome, Store


@dataclass(slots=True, eq=False)
class Batch:
    """Rows of one state that share one call: its start, its flags and its lock.

    Everything else stays each row's own: claim, lease, fence, age. A batch does not fail; where it
    did not come to an outcome for each row it is run again in halves, until one row stands alone.
    ``stale`` is the same for all rows: see ``Attempt``.
    """

    store: Store
    model: Any
    state: State
    attempts: list[Attempt]
    stale: bool
    started: float | None = None
    finished: bool = False
    overran: bool = False
    cancelled: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    suspect: ClassVar[bool] = False  # suspects run alone

    @property
    def pk(self) -> str:
        """What messages call its rows."""
        first, more = self.attempts[0].pk, len(self.attempts) - 1
        return f"{first} and {more} more" if more else str(first)

    @property
    def is_async(self) -> bool:
        return self.state.is_async

    @property
    def superseded(self) -> bool:
        """Whether the call is of no use any more; as long as one row needs it, it goes on."""
        return all(each.superseded for each in self.attempts)

    @property
    def lease_until(self) -> float:
        """Until when every row is ours; that of a row that moved on is over."""
        return min(float("-inf") if each.superseded else each.lease_until for each in self.attempts)


Work: TypeAlias = Attempt | Batch
"""What a thread, or a place on the event loop, is busy with."""


class Again(Enum):
    """What a batch comes to if nobody knows which of its rows is to blame."""

    IN_HALVES = "in halves"


Result: TypeAlias = Outcome | Sequence[Outcome | None] | Literal[Again.IN_HALVES] | None
"""What some work came to: an outcome, one for each row of a batch, or None to hand back."""


def attempts_of(work: Work) -> list[Attempt]:
    """The rows of one call."""
    return work.attempts if isinstance(work, Batch) else [work]


def together(attempts: Sequence[Attempt]) -> list[Work]:
    """One piece of work with all of these rows of one state; none without rows."""
    if len(attempts) < 2:
        return list(attempts)
    first = attempts[0]
    return [Batch(first.store, first.model, first.state, list(attempts), first.stale)]


def halves(batch: Batch) -> list[Work]:
    """The same rows again, those that moved on left out."""
    attempts = [each for each in batch.attempts if not each.superseded]
    middle = len(attempts) // 2
    for each in attempts:
        each.stale = True
    return together(attempts[:middle]) + together(attempts[middle:])


def batched(attempts: Iterable[Attempt], alone: Callable[[Attempt], bool]) -> list[Work]:
    """Rows that were claimed together, as they are to be run.

    A row with a history, or that is ``alone`` for another reason, spoils no other's call.
    """
    works: list[Work] = []
    by_state: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        if attempt.state.batch is None or _has_a_history(attempt) or alone(attempt):
            works.append(attempt)
        else:
            by_state.setdefault(attempt.state.name, []).append(attempt)
    for together_ in by_state.values():
        size = together_[0].state.batch or 1
        for start in range(0, len(together_), size):
            works += together(together_[start : start + size])
    return works


def _has_a_history(attempt: Attempt) -> bool:
    return attempt.suspect or bool(attempt.row.__dict__["state_failures"])
