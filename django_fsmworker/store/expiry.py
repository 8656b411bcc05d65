"""Deleting rows that have outlived their state's ``delete_after``.

They are locked by state and age, then deleted in the same transaction through the ORM: cascades and
signals work, and a row that somebody revived meanwhile survives. A model that has a ``delete()`` of
its own, for soft deletion or a tree, is asked to delete its rows one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import connections
from django.db.models import QuerySet

from django_fsmworker.exceptions import StillThere
from django_fsmworker.graph import State
from django_fsmworker.models.functions import DatabaseNow, unleased
from django_fsmworker.models.keys import with_keys
from django_fsmworker.models.locking import keys_and_states, simply_named
from django_fsmworker.models.stator_model import StatorModel
from django_fsmworker.store.errors import is_contention, is_outage
from django_fsmworker.store.failures import Failure, forget, record
from django_fsmworker.store.interface import Store


@dataclass
class Expired:
    """The keys of rows that were deleted, and of rows that would not be."""

    deleted: list[Any] = field(default_factory=list)
    refused: list[Any] = field(default_factory=list)


def with_overdue_rows(store: Store, places: Sequence[tuple[Any, State]]) -> list[tuple[Any, State]]:
    """The models and states of ``places`` that have rows to delete; one statement for all."""
    if not places:
        return []
    parts, params = [], []
    for model, state in places:
        rows = _to_delete(store, model, state).order_by().values("pk")[:1]
        sql, values = rows.query.get_compiler(store.alias).as_sql()
        parts.append(f"EXISTS ({sql})")
        params += values
    with store.connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(parts)}", params)
        found = cursor.fetchone()
    return [place for place, any_overdue in zip(places, found, strict=True) if any_overdue]


def expire(
    store: Store, model: Any, state: State, limit: int, skip: Collection[Any], worker: str
) -> Expired:
    """Delete up to ``limit`` rows of ``state``; one that cannot be deleted keeps none from going.

    Rows in ``skip`` are left out: they were refused lately.
    """
    overdue = _to_delete(store, model, state).order_by("state_changed")
    if skip:
        oldest = overdue.values_list("pk", flat=True)[: limit + len(skip)]
        overdue = overdue.filter(with_keys(model, [key for key in oldest if key not in skip]))
    if _deletes_itself(model):
        keys = list(overdue.values_list("pk", flat=True)[:limit])
        return _one_by_one(store, model, state, keys, worker)
    try:
        with store.transaction():
            return Expired(deleted=_delete(store, model, _lock(overdue[:limit])))
    except Exception as error:
        if is_outage(error) or is_contention(error) or store.mismatch(model, error):
            raise
        keys = list(overdue.values_list("pk", flat=True)[:limit])
    return _one_by_one(store, model, state, keys, worker)


def _one_by_one(store: Store, model: Any, state: State, keys: list[Any], worker: str) -> Expired:
    """Delete each row in a transaction of its own; put on record why one would not go."""
    expired = Expired()
    for key in keys:
        try:
            with store.transaction():
                locked = _lock(_overdue(store, model, state).filter(pk=key))
                _delete(store, model, locked)
                if _deletes_itself(model):
                    _refuse_to_find(store, model, state, locked)
            expired.deleted += locked
        except Exception as error:
            if is_contention(error):
                continue
            if is_outage(error):
                if not expired.deleted:
                    raise
                break  # what is deleted has to be told
            expired.refused.append(key)
            record(store.alias, model, [(key, state.name, Failure.of(error))], worker)
    return expired


def _overdue(store: Store, model: Any, state: State) -> QuerySet[Any]:
    """Rows of ``state`` older than its ``delete_after`` that no lease holds."""
    return QuerySet(model, using=store.alias).filter(
        unleased(),
        state=state.name,
        state_changed__lte=DatabaseNow() - timedelta(seconds=state.delete_after or 0),
    )


def _to_delete(store: Store, model: Any, state: State) -> QuerySet[Any]:
    """Overdue rows that are not deleted yet: the default manager knows whom ``delete()`` hides."""
    overdue = _overdue(store, model, state)
    if not _deletes_itself(model):
        return overdue
    return overdue.filter(pk__in=model._default_manager.using(store.alias).order_by().values("pk"))


def _deletes_itself(model: Any) -> bool:
    """Whether ``model`` overrides ``delete()``."""
    return model.delete is not StatorModel.delete


def _refuse_to_find(store: Store, model: Any, state: State, keys: list[Any]) -> None:
    """Raise if a row that was asked to delete itself would be asked again the next time."""
    if keys and _to_delete(store, model, state).filter(pk__in=keys).exists():
        raise StillThere(
            f"delete() left the row in the state {state}, and {model.__name__}."
            f"{model._default_manager.name} still finds it. Let delete() move it to a state "
            f"without delete_after, or let that manager hide it."
        )


def _lock(rows: QuerySet[Any]) -> list[Any]:
    features = connections[rows.db].features
    locked = simply_named(rows).select_for_update(
        skip_locked=features.has_select_for_update_skip_locked,
        of=("self",) if features.has_select_for_update_of else (),
    )
    return [key for key, _ in keys_and_states(locked)]


def _delete(store: Store, model: Any, keys: list[Any]) -> list[Any]:
    if keys:
        rows: QuerySet[Any] = QuerySet(model, using=store.alias)
        rows = rows.filter(with_keys(model, keys))
        if _deletes_itself(model):
            for row in rows:
                row.delete()
        else:
            rows.delete()
        forget(store.alias, model, keys)
    return keys
