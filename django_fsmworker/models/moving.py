"""Moving rows by code instead of by a check: what a row's columns become when it enters a state."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, connections, transaction
from django.db.models import QuerySet

from django_fsmworker import clock
from django_fsmworker.graph import State
from django_fsmworker.models import door
from django_fsmworker.models.discovery import declaring_model
from django_fsmworker.models.functions import AppendToHistory, DatabaseNow
from django_fsmworker.models.keys import MOST_KEYS, batched, key_name, with_keys
from django_fsmworker.models.records import FailureRecord, row_key

WAITS = (0.01, 0.05, 0.2, 0.5)
# MariaDB joins a list of 1,000 keys like a table, and locks in the order of that.
MOST_LOCKED = 500


def entering(model: Any, state: State) -> dict[str, Any]:
    """Values for ``QuerySet.update()``; what runs on the row loses its claim: it is superseded."""
    delay = state.first_due
    values: dict[str, Any] = {
        "state": state.name,
        "state_changed": DatabaseNow(),
        "state_next": None if delay is None else DatabaseNow() + timedelta(seconds=delay),
        "state_lease": None,
        "state_claim": None,
        "state_failures": 0,
    }
    if any(field.attname == "state_history" for field in model._meta.concrete_fields):
        values["state_history"] = AppendToHistory("state_history", state.name)
    return values


def to_write(rows: QuerySet[Any]) -> QuerySet[Any]:
    """``rows`` of the database that they are written to, unless they name one themselves."""
    written: Any = rows.all()
    written._for_write = True
    return rows.using(written.db)


def move(rows: QuerySet[Any], state: State) -> list[tuple[Any, str | None]]:
    """Put every row of ``rows`` into ``state``, whatever its own; returns ``(pk, source)`` of each.

    A queryset without a database is one to read from: ``to_write()``. A database that ends a
    deadlock at the cost of this transaction is asked again, unless it is the caller's own. (MariaDB
    takes a wait for a deadlock where somebody just skips a locked row.)
    """
    connection = connections[rows.db]
    own = not connection.in_atomic_block and connection.features.has_select_for_update
    for wait in WAITS if own else ():
        try:
            return _move(rows, state)
        except DatabaseError as error:
            if not door.engine().is_contention(error):
                raise
            time.sleep(wait * random.uniform(0.5, 1.0))
    return _move(rows, state)


def _move(rows: QuerySet[Any], state: State) -> list[tuple[Any, str | None]]:
    """The rows are locked first, in the order of their keys: two updates of many rows that do not
    agree on an order deadlock within seconds. Those of a multi-table child are locked, and told, by
    the row that has the state.
    """
    model, using = declaring_model(rows.model), rows.db
    with transaction.atomic(using=using):
        moved: list[tuple[Any, str | None]] = []
        for some in lockable(rows):
            moved += dict(keys_and_states(locked(some))).items()
        for keys in batched([pk for pk, _ in moved], MOST_KEYS):
            known: QuerySet[Any] = QuerySet(model, using=using)
            known.filter(with_keys(model, keys)).update(**entering(model, state))
            resolve_failures(model, keys, using)
    return moved


def resolve_failures(model: Any, keys: list[Any], using: str) -> None:
    """Somebody has dealt with these rows: what had failed is past."""
    FailureRecord.objects.using(using).filter(
        model=model._meta.label, row__in=[row_key(key) for key in keys], resolved=None
    ).update(resolved=clock.now(), deaths=0)


def locked(rows: QuerySet[Any], skip: bool = False) -> QuerySet[Any]:
    """``rows``, to be locked in the order of their keys when they are read.

    With ``skip`` those that somebody else has locked are left out, where the database can do that.
    """
    features = connections[rows.db].features
    return rows.order_by(key_name(rows.model)).select_for_update(
        skip_locked=skip and features.has_select_for_update_skip_locked,
        of=(_lock_path(rows.model),) if features.has_select_for_update_of else (),
        no_key=features.has_select_for_no_key_update,
    )


def keys_and_states(rows: QuerySet[Any]) -> list[tuple[Any, str]]:
    """The key and the state of each of ``rows``, which may be locked as they are read.

    The state is selected first: a composite key does not tell Django which table is locked.
    """
    found = rows.values_list("state", key_name(rows.model))
    return [(key, state) for state, key in found]


def _lock_path(model: Any) -> str:
    """The way from a query of ``model`` to the table that has the state."""
    way = model._meta.get_path_to_parent(declaring_model(model))
    return "__".join(step.join_field.name for step in way) or "self"


def lockable(rows: QuerySet[Any]) -> Iterator[QuerySet[Any]]:
    """``rows`` as querysets that a database can lock, in the order of their keys.

    The keys of a slice are read first; its conditions are looked at once more under the lock.
    Those of a union, of groups or of distinct rows cannot be. So are all keys on MariaDB and MySQL,
    which lock, and wait for, each row that they look at, wanted or not.
    """
    query, keys_first = rows.query, connections[rows.db].vendor == "mysql"
    derived = query.combinator or query.distinct or query.group_by
    if not derived and not query.is_sliced and not keys_first:
        yield rows
        return
    name = rows.model._meta.pk.name if query.combinator else "pk"
    keys = sorted(set(rows.values_list(name, flat=True)))
    whole = QuerySet(rows.model, using=rows.db) if derived else rows.all()
    whole.query.clear_limits()
    for some in batched(keys, MOST_LOCKED if keys_first else MOST_KEYS):
        yield whole.filter(with_keys(rows.model, some))
