"""Rows that an index finds, where the condition that they are looked for by has none of its own.

Due rows lie in the index of each state's lane, held ones at its beginning or within a lease from
now; failing and parked ones are on record, and stranded ones have an index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from typing import Any

from django.db.models import Q, QuerySet

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.diagnosis.status import HELD, WALKED
from django_fsmworker.models.functions import DatabaseNow, unleased
from django_fsmworker.models.keys import declaring_model, keys_from
from django_fsmworker.models.records import FailureRecord
from django_fsmworker.store import store_for

MOST = 2_000
"""The most rows that are found."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The keys of rows among which all are that are looked for, unless there are too many."""

    keys: list[Any]
    complete: bool


def candidates(model: Any, using: str, kind: str) -> Candidates | None:
    """The candidates for rows of one kind; None for a kind that no index leads to."""
    find = FINDERS.get(kind)
    return None if find is None else find(declaring_model(model), using)


def _in_lanes(condition: Callable[[], Q]) -> Callable[[Any, str], Candidates]:
    """In each state's lane the first rows of which that is true."""

    def find(model: Any, using: str) -> Candidates:
        first = (
            lane.filter(unleased(), condition()).order_by("state_next")
            for lane in _lanes(model, using)
        )
        keys = _first_of(first)
        return Candidates(keys[:MOST], len(keys) <= MOST)

    return find


def _running(model: Any, using: str) -> Candidates:
    """Among the first due rows, and those whose due time a renewal may have put off."""
    soon = DatabaseNow() + timedelta(seconds=2 * RunnerSettings.load().lease)
    past, renewed = Q(state_next__lte=DatabaseNow()), Q(state_next__gt=DatabaseNow())
    stretches = [past, renewed & Q(state_next__lte=soon)]
    walked = [
        lane.filter(stretch).order_by("state_next").values("pk")[:WALKED]
        for lane in _lanes(model, using)
        for stretch in stretches
    ]
    rows: QuerySet[Any] = QuerySet(model, using=using)
    keys = _first_of(rows.filter(HELD, pk__in=some) for some in walked)
    looked_at = _together(walked)[: WALKED + 1].count()
    return Candidates(keys[:MOST], len(keys) <= MOST and looked_at <= WALKED)


def _on_record(model: Any, using: str) -> Candidates:
    """Rows of whose failures, or of whose parking, there is a record that is not resolved."""
    records: QuerySet[FailureRecord] = QuerySet(FailureRecord, using=using)
    open_ones = records.filter(model=model._meta.label, resolved=None).order_by()
    names = list(open_ones.values_list("row", flat=True)[: MOST + 1])
    return Candidates(list(keys_from(model, names[:MOST])), len(names) <= MOST)


def _stranded(model: Any, using: str) -> Candidates:
    keys = store_for(using).statistics.stranded(model, MOST + 1)
    return Candidates(keys[:MOST], len(keys) <= MOST)


def _undeclared(model: Any, using: str) -> Candidates:
    """Rows in undeclared states that have a due time; the others are in no index."""
    rows: QuerySet[Any] = QuerySet(model, using=using)
    states = store_for(using).undeclared_states(model, 1)
    keys = _first_of(rows.filter(state=each, state_next__isnull=False) for each in states)
    return Candidates(keys[:MOST], complete=False)


def _lanes(model: Any, using: str) -> list[QuerySet[Any]]:
    rows: QuerySet[Any] = QuerySet(model, using=using)
    states = [*model.state_graph.states, *store_for(using).undeclared_states(model, 1)]
    return [rows.filter(state=each) for each in states]


def _first_of(some: Iterable[QuerySet[Any]]) -> list[Any]:
    """The keys of the first rows of each, in one query."""
    parts = [each.values("pk")[: MOST + 1] for each in some]
    return [row["pk"] for row in _together(parts)[: MOST + 1]] if parts else []


def _together(parts: list[QuerySet[Any]]) -> QuerySet[Any]:
    return reduce(lambda one, other: one.union(other, all=True), parts)


FINDERS: dict[str, Callable[[Any, str], Candidates]] = {
    "now": _in_lanes(lambda: Q(state_next__lte=DatabaseNow())),
    "overdue": _in_lanes(lambda: Q(state_next__lt=DatabaseNow() - timedelta(minutes=1))),
    "waiting": _in_lanes(lambda: Q(state_next__gt=DatabaseNow())),
    "running": _running,
    "failing": _on_record,
    "parked": _on_record,
    "stranded": _stranded,
    "unknown": _undeclared,
}
"""By the name of the kind, as the filters of the admin have it."""
