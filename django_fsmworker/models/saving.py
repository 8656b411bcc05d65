"""How ``save()`` keeps a stale instance from moving a row back.

A plain save never writes a state column: their fields answer ``column = column``. What was assigned
by hand is written first, as a compare-and-set on the state that was loaded, in one transaction with
the rest of the row.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db import DatabaseError, connections, models

from django_fsmworker.exceptions import StaleState
from django_fsmworker.models.attributes import as_loaded, changes, forget_changes
from django_fsmworker.models.discovery import declaring_model
from django_fsmworker.models.keys import key_of
from django_fsmworker.models.moving import entering, resolve_failures

ENGINE_COLUMNS = (
    "state",
    "state_changed",
    "state_next",
    "state_lease",
    "state_claim",
    "state_failures",
    "state_history",
)


def assigned(instance: Any, update_fields: Collection[str] | None) -> dict[str, Any]:
    """The state columns assigned since the load that this save is asked to write."""
    found = changes(instance)
    if update_fields is None:
        return found
    return {name: value for name, value in found.items() if name in update_fields}


def write_assigned(instance: Any, columns: dict[str, Any], using: str) -> None:
    """Write ``columns`` if the row is still in the state it was loaded in.

    Raises ``StaleState`` if it is not, and leaves a row that is gone to ``save()``'s own error.
    """
    model = declaring_model(type(instance))
    row = stored(instance, using)
    values = dict(columns)
    if "state" in columns:
        values = entering(model, model.state_graph.get(columns["state"])) | columns
    loaded = loaded_state(instance)
    fenced = row if loaded is None else row.filter(state=loaded)
    written = fenced.update(**values)
    if written and "state" in columns:
        resolve_failures(model, [key_of(instance)], using)
    if not written and row.exists():
        raise StaleState(
            f"{instance._meta.label} {instance.pk} is no longer in the state {loaded!r} it was "
            f"loaded in; nothing was saved. Load it again with refresh_from_db() and decide anew."
        )


def stored(instance: Any, using: str) -> models.QuerySet[Any]:
    """The row that has the state of ``instance``."""
    rows: models.QuerySet[Any] = models.QuerySet(declaring_model(type(instance)), using=using)
    return rows.filter(pk=key_of(instance))


def lock_or_refuse(instance: Any, using: str) -> None:
    """Lock a row that is in several tables, or raise ``DatabaseError`` if it is gone.

    Django inserts what it does not find in a parent's table, and the row would be there again.
    """
    features = connections[using].features
    row = stored(instance, using).select_for_update(no_key=features.has_select_for_no_key_update)
    if not row.values_list("pk"):
        raise DatabaseError(
            f"{instance._meta.label} {instance.pk} was deleted since it was loaded; nothing was "
            f"saved."
        )


def read_back(instance: Any, using: str) -> None:
    """Give ``instance`` the state columns as the database has them now."""
    names = present_columns(type(instance))
    instance.__dict__.update(stored(instance, using).values(*names).get())
    forget_changes(instance)


def present_columns(model: Any) -> list[str]:
    """The engine's columns that ``model`` has (its history is optional)."""
    own = {field.attname for field in model._meta.concrete_fields}
    return [name for name in ENGINE_COLUMNS if name in own]


def loaded_state(instance: Any) -> str | None:
    """The state the row was loaded in; None if it was deferred."""
    try:
        return str(as_loaded(instance, "state"))
    except KeyError:
        return None
