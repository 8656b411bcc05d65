"""A table that is not as this code expects it, as it is before its migrations have run."""

from __future__ import annotations

from typing import Any

from django.db import DatabaseError

from django_fsmworker.store import Store


def mismatch_of(model: Any, store: Store, error: DatabaseError) -> str:
    """What of the tables of ``model`` a question stumbled over; ``error`` if it is no such thing.

    That is a clause, without its full stop.
    """
    found = store.mismatch(model, error)
    if found is None:
        raise error
    table, said = found
    return (
        f"the table of {table._meta.label} in the database {store.alias!r} is not as the code "
        f"expects it ({str(said).partition(chr(10))[0].strip()})"
    )
