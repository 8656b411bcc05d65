"""The key of the row that has the state, which may be in a parent's table or have several parts."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from functools import cache, reduce
from operator import or_
from typing import Any

from django.db.models import Q

from django_fsmworker.models.discovery import declaring_model
from django_fsmworker.models.records import row_key

# How many keys a statement is given at once.
MOST_KEYS = 5_000

# Django writes a list of composite keys as one expression, in its version 5.2 on SQLite as deep as
# the list is long; SQLite takes 1,000 levels.
MOST_TUPLES = 400


def key_name(model: Any) -> str:
    """What a query calls the key of the row with the state: ``pk``, or the parent's key."""
    owner = declaring_model(model)
    shares_table = model._meta.concrete_model is owner
    return "pk" if shares_table else str(owner._meta.pk.attname)


def key_of(row: Any) -> Any:
    """The primary key of the row with the state; a composite one is a tuple."""
    model: Any = type(row)
    return getattr(row, key_attribute(model))


@cache
def key_attribute(model: Hashable) -> str:
    """Where an instance has it: past ``pk``, which asks for the model's key each time."""
    owner = declaring_model(model)
    return "pk" if is_composite(owner) else str(owner._meta.pk.attname)


def has_key(row: Any) -> bool:
    """Whether every part of the primary key has a value."""
    return None not in (row.pk if is_composite(type(row)) else (row.pk,))


def recorded_as(row: Any) -> dict[str, str]:
    """How records name the row: the model that declares its state, and its key."""
    return {"model": declaring_model(type(row))._meta.label, "row": row_key(key_of(row))}


def is_composite(model: Any) -> bool:
    """Whether the primary key of ``model`` has several columns."""
    return hasattr(model._meta.pk, "fields")


def with_keys(model: Any, keys: list[Any]) -> Q:
    """The condition that a row of ``model`` has one of these primary keys."""
    if not is_composite(model):
        return Q(pk__in=keys)
    return reduce(or_, (Q(pk__in=some) for some in batched(keys, MOST_TUPLES)), Q(pk__in=[]))


def batched(keys: list[Any], size: int) -> Iterator[list[Any]]:
    """``keys`` in lists of at most ``size``: a statement takes only so many parameters."""
    for start in range(0, len(keys), size):
        yield keys[start : start + size]
