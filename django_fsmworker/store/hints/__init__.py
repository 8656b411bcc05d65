"""The transports of hints between processes; one module a database.

Nothing depends on them but how soon a row is run: what no hint tells, a runner's poll finds.
"""

from __future__ import annotations

from django.db import connections

from django_fsmworker.store.hints.interface import HintTransport, Listener
from django_fsmworker.store.hints.postgresql import PostgreSQLHints
from django_fsmworker.store.hints.sqlite import SQLiteHints

TRANSPORTS: dict[str, type[HintTransport]] = {"postgresql": PostgreSQLHints, "sqlite": SQLiteHints}

__all__ = ["HintTransport", "Listener", "hint_transport_for"]


def hint_transport_for(alias: str) -> HintTransport | None:
    """The transport of the database behind ``alias``; None if it has no way to tell (MySQL)."""
    transport = TRANSPORTS.get(connections[alias].vendor)
    return None if transport is None else transport(alias)
