"""Telling other processes that rows are due, and hearing of it; one module a database.

Nothing depends on it but how soon a row is run: what no hint tells, a runner's poll finds.
"""

from __future__ import annotations

from django.db import connections

from django_fsmworker.store.hints.interface import EVERY_MODEL, Hints, Listener
from django_fsmworker.store.hints.postgresql import PostgreSQLHints
from django_fsmworker.store.hints.sqlite import SQLiteHints

HINTS: dict[str, type[Hints]] = {"postgresql": PostgreSQLHints, "sqlite": SQLiteHints}

__all__ = ["EVERY_MODEL", "Hints", "Listener", "hints_for"]


def hints_for(alias: str) -> Hints | None:
    """The hints of the database behind ``alias``; None where it has no way to tell (MySQL)."""
    hints = HINTS.get(connections[alias].vendor)
    return None if hints is None else hints(alias)
