"""The driver of each connection, by its database."""

from __future__ import annotations

import traceback
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


def let_go(error: BaseException) -> None:
    """Close what the frames of a failed call hold: above all the socket of a try to connect.

    psycopg's frames and their error refer to each other. Until Python's collector came, the try
    stayed open, and took one of the server's places when the network was back.
    """
    each: BaseException | None = error
    while each is not None:
        traceback.clear_frames(each.__traceback__)
        each = each.__cause__ or each.__context__
