"""The filter of a bulk action: frozen as the query that the user's page had made, and signed.

It is the query and not what was asked of the page: an admin's own ``get_queryset()``, as one for
tenants, may look at the request, its user, its session or its host, and a runner has none of them.
What it has resolved to holds for the whole action, whoever resumes it. Moments that the database
computes (``due``, ``overdue``) are computed anew for each batch.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.core import signing
from django.db.models import QuerySet

from django_fsmworker.store.bulk_rows import FrozenQuery, frozen_query

SALT = "django_fsmworker.bulk"

# As JSON has them. A datetime is a date, too, so the order matters.
_KINDS: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "datetime": (datetime, datetime.isoformat, datetime.fromisoformat),
    "date": (date, date.isoformat, date.fromisoformat),
    "time": (time, time.isoformat, time.fromisoformat),
    "timedelta": (
        timedelta,
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda parts: timedelta(*parts),
    ),
    "decimal": (Decimal, str, Decimal),
    "uuid": (UUID, str, UUID),
    "bytes": (bytes, lambda value: b64encode(value).decode(), b64decode),
}


class NotFrozen(ValueError):
    """A filter cannot be given to the runners, or what is on record as one is none."""


def freeze(rows: QuerySet[Any]) -> str:
    """``rows`` as signed text; raises ``NotFrozen`` if none can match, or for odd parameters."""
    query = frozen_query(rows)
    if query is None:
        raise NotFrozen("No row can match.")
    sql, params = query
    return signing.dumps([sql, [_plain(each) for each in params]], salt=SALT, compress=True)


def thaw(text: str) -> FrozenQuery:
    """The query that ``freeze()`` has made text of; raises ``NotFrozen`` for anything else."""
    try:
        sql, params = signing.loads(text, salt=SALT)
    except signing.BadSignature as error:
        raise NotFrozen(
            "The filter on record was not signed with this project's SECRET_KEY, or was changed "
            "since; start the action anew."
        ) from error
    return sql, [_value(each) for each in params]


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):  # drivers have numbers with a type, enumerations have members
        return int(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, list | tuple):
        return {"list": [_plain(each) for each in value]}
    for name, (kind, plain, _) in _KINDS.items():
        if isinstance(value, kind):
            return {name: plain(value)}
    raise NotFrozen(
        f"A filter on a value of the type {type(value).__name__} cannot be given to the runners; "
        f"choose the rows by other filters."
    )


def _value(plain: Any) -> Any:
    if not isinstance(plain, dict):
        return plain
    ((name, value),) = plain.items()
    if name == "list":
        return [_value(each) for each in value]
    return _KINDS[name][2](value)
