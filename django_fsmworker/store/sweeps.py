"""Which rows of a state without a check a sweep looks at, one window of their keys after the other.

Nothing is written on a row whose guard is false. A bare ``UPDATE`` over a join would not do for the
others: its condition sits in a subquery, which PostgreSQL does not look at again when it has waited
for a row, so one that had just moved would be moved once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import QuerySet

from django_fsmworker.graph import State, Transition
from django_fsmworker.models.functions import DatabaseNow, unleased
from django_fsmworker.store.interface import Store


@dataclass(frozen=True, slots=True)
class Window:
    """The rows of one state whose keys come after ``after`` (None: from the first), to ``upto``.

    ``last``: there was no further row.
    """

    after: Any
    upto: Any
    last: bool = False

    def of(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """The part of ``rows`` that is in this window."""
        return _after(rows, self.after).filter(pk__lte=self.upto)

    def halves(self, store: Store, rows: QuerySet[Any]) -> list[Window]:
        """Two windows with about half of its ``rows`` each; none if it has but one."""
        inside = self.of(rows)
        half = inside.count() // 2
        middle = store.key_at(inside, half - 1) if half else None
        if middle is None or middle == self.upto:
            return []
        return [Window(self.after, middle), Window(middle, self.upto, self.last)]


def rows_in(model: Any, state: State, alias: str) -> QuerySet[Any]:
    """All rows in ``state``."""
    rows: QuerySet[Any] = QuerySet(model, using=alias)
    return rows.filter(state=state.name)


def next_window(store: Store, rows: QuerySet[Any], after: Any, size: int) -> Window | None:
    """The window of the next ``size`` of ``rows`` after a key; None if there is no further row.

    The index over which this looks has nothing but the rows of that state, by their keys.
    """
    further = _after(rows, after)
    upto = store.key_at(further, size - 1)
    if upto is not None:
        return Window(after, upto)
    last = list(further.order_by("-pk").values_list("pk", flat=True)[:1])
    return Window(after, last[0], last=True) if last else None


def movable(rows: QuerySet[Any], edge: Transition) -> QuerySet[Any]:
    """The part of ``rows`` that a guard moves.

    Failing rows are left out: they are parked, or have a due time by which they are claimed.
    """
    start_after = edge.source.start_after
    rows = rows.filter(unleased(), state_failures=0)
    if start_after:
        rows = rows.filter(state_changed__lte=DatabaseNow() - timedelta(seconds=start_after))
    return rows.filter(edge.when)


def _after(rows: QuerySet[Any], key: Any) -> QuerySet[Any]:
    return rows if key is None else rows.filter(pk__gt=key)
