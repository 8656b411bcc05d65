"""Locking rows in the order of their keys, on any database."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, TypeVar

from django.db import DatabaseError, connections
from django.db.models import QuerySet

from django_fsmworker.models.engine import engine
from django_fsmworker.models.functions import known_dialect
from django_fsmworker.models.keys import (
    MOST_KEYS,
    declaring_model,
    in_order,
    key_name,
    portions,
    with_keys,
)

# Seconds before each further try at a transaction that the database ended as a deadlock.
WAITS = (0.01, 0.05, 0.2, 0.5)

Result = TypeVar("Result")

# What begins a name that is quoted already.
QUOTES = ('"', "`")


def patiently(using: str, write: Callable[[], Result]) -> Result:
    """What ``write()`` returns, which is a transaction of its own in the database ``using``.

    If the database ends a deadlock at the cost of it, it is tried again, unless it was in the
    caller's. (Some databases take a wait for a deadlock where somebody just skips a locked row.)
    """
    if not connections[using].in_atomic_block:
        for wait in WAITS:
            try:
                return write()
            except DatabaseError as error:
                if not engine().is_contention(error):
                    raise
                time.sleep(wait * random.uniform(0.5, 1.0))
    return write()


def locked(rows: QuerySet[Any], skip: bool = False) -> QuerySet[Any]:
    """``rows`` as a queryset that locks them, in the order of their keys, when it is read.

    With ``skip``, rows that somebody else has locked are left out, where the database can do that.
    """
    features = connections[rows.db].features
    return simply_named(rows.order_by(key_name(rows.model))).select_for_update(
        skip_locked=skip and features.has_select_for_update_skip_locked,
        of=(_lock_path(rows.model),) if features.has_select_for_update_of else (),
        no_key=features.has_select_for_no_key_update,
    )


def simply_named(rows: QuerySet[Any]) -> QuerySet[Any]:
    """``rows`` under other names in the statement, if a table's own would not do in its clauses.

    Django takes a table's name for its alias, and leaves one that is quoted already as it is. Many
    projects put a schema there so: ``db_table = '"schema"."table"'``. A clause that locks takes no
    such name. A queryset that is returned renamed can be ordered and sliced no more.
    """
    query = rows.query.chain()
    query.get_initial_alias()
    if not any(name[:1] in QUOTES for name in query.alias_map):
        return rows
    query.change_aliases({name: f"fsm{n}" for n, name in enumerate(list(query.alias_map))})
    query.__dict__.pop("base_table", None)
    renamed = rows.all()
    renamed.query = query
    return renamed


def name_in(rows: QuerySet[Any]) -> str:
    """The name under which the statement of ``rows`` knows the model's table."""
    name: str = rows.query.get_initial_alias()
    return name


def keys_and_states(rows: QuerySet[Any]) -> list[tuple[Any, str]]:
    """The key and the state of each of ``rows``, which may be locked as they are read.

    The state is selected first: a composite key does not tell Django which table is locked.
    """
    found = rows.values_list("state", key_name(rows.model))
    return [(key, state) for state, key in found]


def keys_states_and_claims(rows: QuerySet[Any]) -> list[tuple[Any, str, int | None]]:
    """The key, the state and the token of each of ``rows``, as ``keys_and_states()`` reads them."""
    found = rows.values_list("state", "state_claim", key_name(rows.model))
    return [(key, state, claim) for state, claim, key in found]


def moments(rows: QuerySet[Any]) -> list[tuple[Any, str, datetime]]:
    """Key, state, and when it was entered, of each of ``rows``; see ``keys_and_states()``."""
    found = rows.values_list("state", "state_changed", key_name(rows.model))
    return [(key, state, entered) for state, entered, key in found]


def _lock_path(model: Any) -> str:
    """The way from a query of ``model`` to the table that has the state."""
    way = model._meta.get_path_to_parent(declaring_model(model))
    return "__".join(step.join_field.name for step in way) or "self"


def lockable(rows: QuerySet[Any]) -> Iterator[QuerySet[Any]]:
    """``rows`` as querysets that a database can lock, in the order of their keys.

    The keys of a slice are read first; its conditions are looked at once more under the lock.
    Those of a union, of groups or of distinct rows cannot be. So are all keys where a database
    locks, and waits for, each row that it looks at, wanted or not.
    """
    query = rows.query
    most_locked = known_dialect(connections[rows.db]).most_locked
    derived = query.combinator or query.distinct or query.group_by
    if not derived and not query.is_sliced and most_locked is None:
        yield rows
        return
    name = rows.model._meta.pk.name if query.combinator else "pk"
    keys = in_order(set(rows.values_list(name, flat=True)))
    whole = QuerySet(rows.model, using=rows.db) if derived else rows.all()
    whole.query.clear_limits()
    for some in portions(keys, most_locked or MOST_KEYS):
        yield whole.filter(with_keys(rows.model, some))
