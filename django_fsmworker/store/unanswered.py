"""Writes whose answer was lost: what they claimed is free again as soon as the database answers.

Nobody but the lost answer knows their token. So their rows would wait until the leases have run
out, and then run one by one, as suspects, although nothing has happened to them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.db import Error, connections
from django.db.models import QuerySet

from django_fsmworker.store.claims import Hold, Lane
from django_fsmworker.store.errors import is_outage, tells_of
from django_fsmworker.store.outcomes import Outcome

# Of each lane. A claim takes rows from its start; one that is not found there waits for its lease.
MOST_LOOKED_AT = 20_000


class Unanswered:
    """One store's; the threads that claim and settle share it."""

    def __init__(self, alias: str, hand_back: Callable[[Any, Sequence[Hold]], Any]) -> None:
        self._alias = alias
        self._hand_back = hand_back
        self._waiting: deque[Callable[[], Any]] = deque()

    @contextmanager
    def claim(self, model: Any, lanes: Sequence[Lane], token: int) -> Iterator[None]:
        """Around the statement that claims with this token, or the odd one above it."""
        with self._watched(partial(self._free_claimed, model, lanes, token)):
            yield

    @contextmanager
    def advance(self, model: Any, outcomes: Sequence[Outcome], token: int) -> Iterator[None]:
        """Around the statement that moves rows and keeps them under this token."""
        with self._watched(partial(self._free_advanced, model, outcomes, token)):
            yield

    def free(self) -> None:
        """Free what lost answers told of. Tried once for each: the lease sees to the rest."""
        while self._waiting and not connections[self._alias].in_atomic_block:
            connections[self._alias].ensure_connection()
            self._waiting.popleft()()

    @contextmanager
    def _watched(self, free: Callable[[], Any]) -> Iterator[None]:
        connection = connections[self._alias]
        connection.ensure_connection()  # without one, nothing gets there whose answer could be lost
        try:
            yield
        except Error as error:
            if not connection.in_atomic_block and tells_of(error, is_outage):
                self._waiting.append(free)
            raise

    def _free_claimed(self, model: Any, lanes: Sequence[Lane], token: int) -> None:
        rows: QuerySet[Any] = QuerySet(model, using=self._alias)
        holds = []
        for lane in lanes:
            due = rows.filter(state=lane.state, state_next__isnull=False).order_by("state_next")
            if lane.since is not None:
                due = due.filter(state_next__gte=lane.since)
            found = due.values_list("pk", "state_claim")[:MOST_LOOKED_AT]
            holds += [
                Hold(pk, claim, lane.state) for pk, claim in found if claim in (token, token + 1)
            ]
        if holds:
            self._hand_back(model, holds)

    def _free_advanced(self, model: Any, outcomes: Sequence[Outcome], token: int) -> None:
        self._hand_back(model, [Hold(each.pk, token, each.target) for each in outcomes])
