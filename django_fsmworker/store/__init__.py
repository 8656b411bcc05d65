"""Claim, settle, renew, hand back, expire: the only place with SQL, one module a database."""

from __future__ import annotations

from django.db import connections

from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.store.interface import Hold, Lane, Store
from django_fsmworker.store.outcomes import Kind, Outcome
from django_fsmworker.store.postgresql import PostgreSQLStore
from django_fsmworker.store.sqlite import SQLiteStore

STORES: dict[str, type[Store]] = {"postgresql": PostgreSQLStore, "sqlite": SQLiteStore}

__all__ = ["Hold", "Kind", "Lane", "Outcome", "Store", "store_for"]


def store_for(alias: str) -> Store:
    """The store for the database behind ``alias``."""
    vendor = connections[alias].vendor
    if vendor not in STORES:
        raise ConfigurationError(
            f"The database {alias!r} is {vendor}; rows can be run on {' and '.join(STORES)}. "
            f"Move the models with a state graph to one of them."
        )
    return STORES[vendor](alias)
