"""Claim, settle, renew, hand back, expire: the only place with SQL, one package a database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import connections, router

from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.models.companions import target_of
from django_fsmworker.models.engine import Dialect
from django_fsmworker.models.keys import declaring_model
from django_fsmworker.store.fence import Ending, Fence, Lane, Outcome, Settled
from django_fsmworker.store.interface import Store
from django_fsmworker.store.mysql.store import MySQLStore
from django_fsmworker.store.postgresql.store import PostgreSQLStore
from django_fsmworker.store.sqlite.store import SQLiteStore

STORES: dict[str, type[Store]] = {
    "postgresql": PostgreSQLStore,
    "mysql": MySQLStore,
    "sqlite": SQLiteStore,
}
NAMES = "PostgreSQL, MariaDB, MySQL and SQLite"

__all__ = [
    "Ending",
    "Fence",
    "Lane",
    "Outcome",
    "Settled",
    "Store",
    "dialect_of",
    "one_a_table",
    "store_for",
    "stores_for",
]


def store_for(alias: str) -> Store:
    """The store for the database behind ``alias``."""
    if alias not in connections:
        raise ConfigurationError(
            f"There is no database {alias!r}; DATABASES has {', '.join(connections)}."
        )
    return _store_class(connections[alias])(alias)


def dialect_of(connection: Any) -> Dialect:
    """What the ORM has to be told about the database of ``connection``, Django's wrapper."""
    return _store_class(connection).dialect


def _store_class(connection: Any) -> type[Store]:
    if connection.vendor not in STORES:
        raise ConfigurationError(
            f"The database {connection.alias!r} is {connection.vendor}; rows can be run on "
            f"{NAMES}. Move the models with a state graph to one of them."
        )
    return STORES[connection.vendor]


def stores_for(models: Iterable[Any], alias: str | None = None) -> dict[Any, Store]:
    """The store of each model, one a database: ``alias``, or where routers write the model."""
    # Events are kept where the rows are that they are for.
    aliases = {model: alias or router.db_for_write(target_of(model)) for model in models}
    stores = {each: store_for(each) for each in set(aliases.values())}
    return {model: stores[each] for model, each in aliases.items()}


def one_a_table(stores: Mapping[Any, Store]) -> dict[Any, Store]:
    """Of models that share a table, the events of several models, the first."""
    found: dict[tuple[Any, Store], Any] = {}
    for model, store in stores.items():
        found.setdefault((declaring_model(model), store), model)
    return {model: store for (_, store), model in found.items()}
