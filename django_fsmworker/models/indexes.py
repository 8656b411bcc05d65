"""The indexes every model with a life gets from its state field.

The field contributes them, because indexes of an abstract ``Meta`` are lost when a child has a
``Meta`` of its own, two abstract parents, or another table's parent.
"""

from __future__ import annotations

from hashlib import md5
from typing import Any

from django.db import models

LONGEST_NAME = 30


def contribute_indexes(cls: Any, field: Any) -> None:
    """Append the indexes of ``field``'s graph to ``cls``, once, where the table is its own."""
    meta = cls._meta
    if meta.abstract or meta.proxy or field.model is not cls:
        return
    present = {index.name for index in meta.indexes}
    added = [each for each in state_indexes(meta.db_table, field) if each.name not in present]
    meta.indexes = [*meta.indexes, *added]
    meta.original_attrs["indexes"] = meta.indexes


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


def index_name(table: str, purpose: str) -> str:
    """A name of at most 30 characters (Django's limit) that differs between tables."""
    digest = md5(f"{table} {purpose}".encode(), usedforsecurity=False).hexdigest()[:6]
    suffix = f"_{digest}_{purpose}"
    stem = "".join(letter if letter.isalnum() else "_" for letter in table).lstrip("_0123456789")
    return f"{stem[: LONGEST_NAME - len(suffix)] or 'table'}{suffix}"
