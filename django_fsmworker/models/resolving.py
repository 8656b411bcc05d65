"""The failure records of rows that go on: they are marked as resolved."""

from __future__ import annotations

from typing import Any

from django.db.models import F, Model, QuerySet

from django_fsmworker import clock
from django_fsmworker.models.keys import MOST_KEYS, portions, records_of, row_key
from django_fsmworker.models.records import FailureRecord

# Where no more rows of a model are failing, they are read, and compared with those that are moved.
MOST_COMPARED = 1_000


def unresolved_of(model: type[Model], using: str) -> QuerySet[FailureRecord]:
    """The records of all failures of ``model`` that are not resolved."""
    return FailureRecord.objects.using(using).filter(model=model._meta.label, resolved=None)


def unresolved(model: type[Model], keys: list[Any], using: str) -> QuerySet[FailureRecord]:
    """The failure records of these rows of ``model`` that are not resolved."""
    return FailureRecord.objects.using(using).filter(**records_of(model, keys), resolved=None)


def resolve_failures(model: type[Model], keys: list[Any], using: str) -> None:
    """Mark the failure records of these rows of ``model`` resolved, and forget their deaths.

    How many failures that were is added up, for the next time that the row fails.
    """
    failures = F("resolved_failures") + F("count")
    for some in portions(keys, MOST_KEYS):
        now = clock.now()
        unresolved(model, some, using).update(
            resolved=now, deaths=0, resolved_failures=failures, last_resolved=now
        )


def resolve_many(model: type[Model], keys: list[Any], using: str) -> None:
    """Resolve the failures of many rows, of which usually few have failed."""
    if len(keys) > MOST_COMPARED:
        names = unresolved_of(model, using).values_list("row", flat=True)[: MOST_COMPARED + 1]
        failing = set(names)
        if len(failing) <= MOST_COMPARED:
            keys = [key for key in keys if row_key(key) in failing] if failing else []
    resolve_failures(model, keys, using)
