"""Guards asked about rows, and rows swept, as a runner does it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet

from django_fsmworker.graph import State, Transition
from django_fsmworker.store import store_for
from django_fsmworker.store.sweeps import Window, movable, next_window, rows_in
from tests.app.models import Delivery, DeliveryStates

HELD, PENDING, GONE = DeliveryStates.held, DeliveryStates.pending, DeliveryStates.gone


def guard(when: Any, source: State = HELD, target: State = GONE) -> Transition:
    """An edge that is in no graph: the store does not ask."""
    return Transition(source, target, "guard", when=when)


def sweep(when: Any, rows: QuerySet[Any] | None = None, using: str = "default") -> set[Any]:
    """Move the deliveries in ``held`` of which it is true; returns their keys."""
    rows = rows_in(Delivery, HELD, using) if rows is None else rows
    return store_for(using).sweep(movable(rows, guard(when)), GONE)


def window_of(rows: QuerySet[Any], after: Any, size: int) -> Window | None:
    """The next one after a key."""
    return next_window(store_for(rows.db), rows, after, size)


def windows(rows: QuerySet[Any], size: int) -> Iterator[Window]:
    """One after the other, as a sweep takes them."""
    after: Any = None
    while window := window_of(rows, after, size):
        yield window
        if window.last:
            return
        after = window.upto
