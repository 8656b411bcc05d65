"""The driver of each connection, by its database."""

from __future__ import annotations

from typing import Any

from django_fsmworker.store.driver import Driver
from django_fsmworker.store.mysql.driver import MySQLDriver
from django_fsmworker.store.postgresql.driver import PostgreSQLDriver
from django_fsmworker.store.sqlite.driver import SQLiteDriver

UNKNOWN = Driver()
DRIVERS: dict[str, Driver] = {
    "postgresql": PostgreSQLDriver(),
    "mysql": MySQLDriver(),
    "sqlite": SQLiteDriver(),
}


def driver_of(wrapper: Any) -> Driver:
    """What the driver of this connection (Django's wrapper of it) can do."""
    return DRIVERS.get(wrapper.vendor, UNKNOWN)


def discard(wrapper: Any) -> None:
    """Close a connection, whatever state it is in."""
    driver_of(wrapper).discard(wrapper)


def cut(wrapper: Any) -> bool:
    """End whatever another thread waits for on its connection; False if there is no way to."""
    return driver_of(wrapper).cut(wrapper)
