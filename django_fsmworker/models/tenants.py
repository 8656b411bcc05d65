"""The tenant of a row, for the log: the value of the column that its model names."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from django_fsmworker.models.indexes import own_column


def tenant_of(row: Any) -> Any:
    """The value of the column that ``state_tenant`` of the row's model names.

    None where it names none, or the column was deferred: nothing is loaded for a line of the log.
    """
    name = _attribute(type(row))
    return None if name is None else row.__dict__.get(name)


def _column(model: Any) -> str | None:
    named = getattr(model, "state_tenant", None)
    field = None if named is None else own_column(model._meta, named)
    return None if field is None else str(field.attname)


# Typed once more: to type checkers no model class is hashable.
_attribute: Callable[[Any], str | None] = cache(_column)
