"""The indexes every model with a life gets from its state field.

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


def state_indexes(table: str, field: Any) -> list[models.Index]:
    """The index that claims use and, for graphs that delete rows, the one that expiry uses.

    Each state is a lane of its own in them, so rows that may not run now are never walked over.
    Lease, token and failures stay out: a claim has to remain a HOT update.
    """
    due = models.Index(
        fields=[field.name, "state_next"],
        condition=models.Q(state_next__isnull=False),
        name=index_name(table, "due"),
    )
    expiring = sorted(state.name for state in field.graph.deletion_states)
    if not expiring:
        return [due]
    expiry = models.Index(
        fields=[field.name, "state_changed"],
        condition=models.Q(**{f"{field.name}__in": expiring}),
        name=index_name(table, "expiry"),
    )
    return [due, expiry]


def swept_indexes(meta: Any, field: Any) -> list[models.Index]:
    """Those over which sweeps walk: the keys of the rows in one state that has guards and no check.

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


def _append(meta: Any, indexes: list[models.Index]) -> None:
    present = {index.name for index in meta.indexes}
    meta.indexes = [*meta.indexes, *(each for each in indexes if each.name not in present)]
    meta.original_attrs["indexes"] = meta.indexes


def _when_prepared(cls: Any, action: Callable[[], None]) -> None:
    """A model knows its primary key, which may be Django's own ``id``, only once it is complete."""

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
