"""The indexes that the state field gives to its model.

The field contributes them, because indexes of an abstract ``Meta`` are lost when a child has a
``Meta`` of its own, two abstract parents, or another table's parent.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import md5
from typing import Any

from django.db import models
from django.db.models.signals import class_prepared

LONGEST_NAME = 30


def contribute_indexes(cls: Any, field: Any) -> None:
    """Append the indexes of ``field``'s graph to ``cls``, once, where the table is its own."""
    meta = cls._meta
    if meta.abstract or meta.proxy or field.model is not cls:
        return
    _append(meta, state_indexes(meta.db_table, field))
    if field.graph.swept_states:
        _when_prepared(cls, lambda: _append(meta, swept_indexes(meta, field)))
    if key_columns(field.graph):
        _when_prepared(cls, lambda: _append(meta, keyed_indexes(meta, field)))


def state_indexes(table: str, field: Any) -> list[models.Index]:
    """The index that claims use, that of stranded rows and, for graphs that delete rows, expiry's.

    Each state is a lane of its own in them, so rows that may not run now are never walked over;
    of a model with ``state_lanes_by``, the name of a field, each of its values in a state is.
    Lease, token and failures stay out: a claim has to remain a HOT update.

    That of stranded rows is all but empty: it holds those in a state with a check that have nothing
    due, which beside them are parked ones only.
    """
    indexes = [_due_index(table, field)]
    if checked := checked_states(field.graph):
        at_rest = models.Q(**{f"{field.name}__in": checked, "state_next__isnull": True})
        name = index_name(table, "stranded")
        indexes.append(models.Index(fields=[field.name], condition=at_rest, name=name))
    if expiring := sorted(state.name for state in field.graph.deletion_states):
        indexes.append(
            models.Index(
                fields=[field.name, "state_changed"],
                condition=models.Q(**{f"{field.name}__in": expiring}),
                name=index_name(table, "expiry"),
            )
        )
    return indexes


def checked_states(graph: Any) -> list[str]:
    """The names of the states with a check, in the order of the index of stranded rows."""
    return sorted(state.name for state in graph.states.values() if state.checked)


def _due_index(table: str, field: Any) -> models.Index:
    lanes_by = getattr(field.model, "state_lanes_by", None)
    return models.Index(
        fields=[field.name, *([lanes_by] if lanes_by else []), "state_next"],
        condition=models.Q(state_next__isnull=False),
        name=index_name(table, "due"),
    )


def swept_indexes(meta: Any, field: Any) -> list[models.Index]:
    """The indexes that sweeps walk: one for each state that has guards and no check.

    Each holds the keys of the rows in that state.

    One index on state and key together would do for all of them, but PostgreSQL, which knows how
    the rows lie in the order of their keys and not in that of state and key, walks over the primary
    key instead: past millions of rows in other states, if they come first.
    """
    return [
        models.Index(
            fields=[each.name for each in meta.pk_fields],
            condition=models.Q(**{field.name: name}),
            name=index_name(meta.db_table, "swept", name),
        )
        for name in sorted(state.name for state in field.graph.swept_states)
    ]


def engine_indexes(model: Any) -> list[models.Index]:
    """All indexes that a runner uses, of the model that declares the state."""
    meta, field = model._meta, model._meta.get_field("state")
    return [
        *state_indexes(meta.db_table, field),
        *swept_indexes(meta, field),
        *keyed_indexes(meta, field),
    ]


def key_columns(graph: Any) -> dict[str, list[str]]:
    """The columns by which states of ``graph`` are limited, with the names of those states."""
    found: dict[str, list[str]] = {}
    for name in sorted(graph.states):
        column = graph.states[name].limits.key
        if column is not None:
            found.setdefault(column, []).append(name)
    return found


def states_keyed_by(model: Any, name: str) -> list[str]:
    """The states that are limited by the column with the attribute ``name``, in order."""
    columns, field = key_columns(model.state_graph), model._meta.get_field(name)
    return sorted({*columns.get(field.name, []), *columns.get(field.attname, [])})


def keyed_indexes(meta: Any, field: Any) -> list[models.Index]:
    """The indexes by which states are claimed key by key: one a column, of those states only.

    A key's rows lie together in it, oldest first, so that a claim walks over no other key's.
    """
    columns: dict[str, list[str]] = {}
    for name, states in key_columns(field.graph).items():
        column = own_column(meta, name)
        if column is not None:  # what is missing is for a system check
            columns[column.name] = sorted({*columns.get(column.name, []), *states})
    return [
        models.Index(
            fields=[field.name, name, "state_next"],
            condition=models.Q(**{f"{field.name}__in": states, "state_next__isnull": False}),
            name=index_name(meta.db_table, "key", name),
        )
        for name, states in columns.items()
    ]


def own_column(meta: Any, name: str) -> Any:
    """The field of the model's own table that is called ``name``, as itself or by its attribute."""
    fields = meta.local_concrete_fields
    return next((each for each in fields if name in (each.name, each.attname)), None)


def limit_attribute(model: Any, name: str) -> str:
    """The attribute of the column ``name``, by which states of ``model`` are limited."""
    attribute: str = own_column(model._meta, name).attname
    return attribute


def _append(meta: Any, indexes: list[models.Index]) -> None:
    present = {index.name for index in meta.indexes}
    meta.indexes = [*meta.indexes, *(each for each in indexes if each.name not in present)]
    meta.original_attrs["indexes"] = meta.indexes


def _when_prepared(cls: Any, action: Callable[[], None]) -> None:
    """Call ``action`` when ``cls`` is complete: only then is its primary key known."""

    def act(**kwargs: Any) -> None:
        class_prepared.disconnect(act, sender=cls)
        action()

    class_prepared.connect(act, sender=cls, weak=False)


def index_name(table: str, purpose: str, state: str = "") -> str:
    """A name of at most 30 characters (Django's limit) that differs between tables and states."""
    subject = f"{table} {purpose} {state}".rstrip()
    digest = md5(subject.encode(), usedforsecurity=False).hexdigest()[:6]
    suffix = f"_{digest}_{purpose}"
    stem = "".join(letter if letter.isalnum() else "_" for letter in table).lstrip("_0123456789")
    return f"{stem[: LONGEST_NAME - len(suffix)] or 'table'}{suffix}"
