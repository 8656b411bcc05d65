"""The rows that failure records are of, as a condition; records have texts of the keys."""

from __future__ import annotations

from typing import Any

from django.db import connections
from django.db.models import (
    BigIntegerField,
    Case,
    CharField,
    Expression,
    F,
    Field,
    IntegerField,
    Q,
    QuerySet,
    UUIDField,
    Value,
    When,
)
from django.db.models.functions import Cast, Replace

from django_fsmworker.models.keys import MOST_KEYS, declaring_model, key_name, keys_from
from django_fsmworker.models.records import FailureRecord

# What a cast takes: PostgreSQL refuses the statement for one text that is no key.
WHOLE_NUMBER = r"^-?([0-9]{1,18}|[1-8][0-9]{18})$"
UUID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"


def rows_of_records(model: Any, records: QuerySet[FailureRecord]) -> Q:
    """The condition of the rows of ``model`` that ``records`` are of, in their database.

    Where the key is a number, a text or a UUID it is a subquery; otherwise it names the rows of the
    first 5,000 records. Records of keys that are none, the type having changed, are left out.
    """
    named = f"{key_name(model)}__in"
    owner = declaring_model(model)
    key = _key_in(records.db, _field_of(owner._meta.pk))
    if key is not None:
        return Q(**{named: records.annotate(fsm_key_=key).values("fsm_key_")})
    names = records.order_by("pk").values_list("row", flat=True)[:MOST_KEYS]
    return Q(**{named: list(keys_from(owner, names))})


def _field_of(field: Any) -> Field[Any, Any]:
    """The field with the value; that of another model where a key is a relation."""
    while field.is_relation:
        field = field.target_field
    found: Field[Any, Any] = field
    return found


def _key_in(alias: str, field: Field[Any, Any]) -> F | Expression | None:
    """The key of a record's row, as its column has it; None where the database cannot tell."""
    if isinstance(field, IntegerField):
        return _cast(WHOLE_NUMBER, BigIntegerField())
    if isinstance(field, UUIDField):
        if connections[alias].features.has_native_uuid_field:
            return _cast(UUID, UUIDField())
        return Replace("row", Value("-"), Value(""))
    return F("row") if isinstance(field, CharField) else None


def _cast(pattern: str, field: Field[Any, Any]) -> Expression:
    return Case(When(row__regex=pattern, then=Cast("row", field)), default=None)
