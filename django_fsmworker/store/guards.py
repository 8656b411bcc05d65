"""Asking the database which guards are true of rows that somebody has in hand."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db.models import OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from django_fsmworker.graph import EventTransition, Transition
from django_fsmworker.models.keys import with_keys


def first_true(
    model: Any, guards: Sequence[Transition], keys: Collection[Any], alias: str
) -> dict[Any, Transition]:
    """``Store.first_true()`` in one statement."""
    rows: QuerySet[Any] = QuerySet(model, using=alias)
    rows = rows.filter(with_keys(model, list(keys)), state=guards[0].source.name)
    if len(guards) == 1:
        return dict.fromkeys(rows.filter(guards[0].when).values_list("pk", flat=True), guards[0])
    # Each in a subquery of its own, where filter() means what it always means: over relations with
    # many rows, a condition inside Case() means something else when it is negated.
    same: QuerySet[Any] = QuerySet(model, using=alias).filter(pk=OuterRef("pk"))
    answers = [
        Subquery(same.filter(edge.when).values_list(Value(number))[:1])
        for number, edge in enumerate(guards)
    ]
    asked = rows.values_list("pk", Coalesce(*answers))
    return {pk: guards[number] for pk, number in asked if number is not None}


def first_true_one_by_one(
    model: Any, guards: Sequence[Transition], keys: Collection[Any], alias: str
) -> dict[Any, Transition]:
    """``Store.first_true()`` in a statement for each guard."""
    found: dict[Any, Transition] = {}
    left = list(keys)
    for edge in guards:
        rows: QuerySet[Any] = QuerySet(model, using=alias).filter(state=edge.source.name)
        true = rows.filter(with_keys(model, left)).filter(edge.when).values_list("pk", flat=True)
        found |= dict.fromkeys(true, edge)
        left = [key for key in left if key not in found]
        if not left:
            break
    return found


def fault_of(edge: Transition | EventTransition, model: Any, alias: str) -> str | None:
    """Why a condition cannot be asked about rows of ``model``; the database is not asked."""
    rows: QuerySet[Any] = QuerySet(model, using=alias)
    try:
        query = rows.filter(edge.when).query
        query.get_compiler(alias).as_sql()
    except EmptyResultSet:  # never true, which is nothing wrong
        return None
    except Exception as error:
        return str(error) or type(error).__name__
    if query.where.contains_aggregate or query.where.contains_over_clause:
        return "It looks at many rows together, by an aggregate or a window."
    return None
