"""Claim, settle, renew, hand back, expire: the only place with SQL, one module a database."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import connections, router

from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.store.claims import Hold, Lane
from django_fsmworker.store.interface import Store
from django_fsmworker.store.mysql import MySQLStore
from django_fsmworker.store.outcomes import Kind, Outcome
from django_fsmworker.store.postgresql import PostgreSQLStore
from django_fsmworker.store.sqlite import SQLiteStore

STORES: dict[str, type[Store]] = {
    "postgresql": PostgreSQLStore,
    "mysql": MySQLStore,
    "sqlite": SQLiteStore,
}
NAMES = "PostgreSQL, MariaDB, MySQL and SQLite"

__all__ = ["Hold", "Kind", "Lane", "Outcome", "Store", "store_for", "stores_for"]


def store_for(alias: str) -> Store:
    """The store for the database behind ``alias``."""
    if alias not in connections:
        raise ConfigurationError(
            f"There is no database {alias!r}; DATABASES has {', '.join(connections)}."
        )
    vendor = connections[alias].vendor
    if vendor not in STORES:
        raise ConfigurationError(
            f"The database {alias!r} is {vendor}; rows can be run on {NAMES}. "
            f"Move the models with a state graph to one of them."
        )
    return STORES[vendor](alias)


def stores_for(models: Iterable[Any], alias: str | None = None) -> dict[Any, Store]:
    """The store of each model, one a database: ``alias``, or where routers write the model."""
    aliases = {model: alias or router.db_for_write(model) for model in models}
    stores = {each: store_for(each) for each in set(aliases.values())}
    return {model: stores[each] for model, each in aliases.items()}
