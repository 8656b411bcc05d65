"""Timestamps of PostgreSQL as the driver itself loads them.

Django puts a loader written in Python around the driver's, which sets each value's time zone. Where
that is UTC, as it is unless a database has a ``TIME_ZONE``, the driver's own value is the same; a
claim of a thousand rows loads three thousand of them.
"""

from __future__ import annotations

from datetime import UTC
from typing import Any


def load_plainly(connection: Any, cursor: Any) -> None:
    """Let ``cursor`` (Django's) load timestamps past Django's loader, if that changes nothing."""
    driver = connection.Database  # psycopg; its second version has no adapters
    if connection.timezone is not UTC or not hasattr(driver, "adapters"):
        return
    oid = driver.adapters.types["timestamptz"].oid
    plain = driver.adapters.get_loader(oid, driver.pq.Format.TEXT)
    if plain is not None:
        cursor.cursor.adapters.register_loader("timestamptz", plain)
