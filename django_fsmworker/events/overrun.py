"""Events during whose delivery a check overran its deadline, as far as this process knows.

One call of the check delivers many events, and all that it did is rolled back. Of the event that it
was at, the next delivery knows so that it is the one to have failed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from django_fsmworker.deadline import DEADLINE
from django_fsmworker.exceptions import ActionOverran

MOST = 10_000

_noted: set[tuple[str, int]] = set()


class Overrun:
    """The overrun events, as one call of the check sees them, which begins now, with ``number``."""

    def __init__(self, number: int) -> None:
        self.deadline = DEADLINE.get()
        self._number = number
        self._began = time.monotonic()

    def note(self, alias: str, event: int) -> None:
        """The call was ended at this event; not in vain, if its time was over."""
        if self._number == 1:
            return  # whose attempt it is, is told by the runner
        if time.monotonic() - self._began < 0.9 * self.deadline:
            return  # the runner stops
        if len(_noted) >= MOST:
            _noted.clear()
        _noted.add((alias, event))

    def fault_of(self, alias: str, event: int) -> Exception | None:
        """What the event has failed of, if a call was ended at it."""
        if not _noted or (alias, event) not in _noted:
            return None
        return ActionOverran("The action did not end within the deadline of the runner.")

    def forget(self, alias: str, events: Iterable[int]) -> None:
        """Forget these events, whose failures are on record now."""
        if _noted:
            _noted.difference_update((alias, event) for event in events)
