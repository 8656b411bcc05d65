"""Locks that somebody else holds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from django.db import connection, transaction


class Locker:
    """Holds one row locked from a connection of its own while the ``with`` block runs.

    On SQLite a transaction that may write has the whole file locked for everybody who writes.
    """

    def __init__(self, start_thread: Callable[..., Any], row: Any) -> None:
        self._start_thread = start_thread
        self._row = row
        self._locked = threading.Event()
        self._release = threading.Event()

    def __enter__(self) -> Locker:
        self._thread = self._start_thread(self._hold)
        assert self._locked.wait(30)
        return self

    def __exit__(self, *exception: object) -> None:
        self._release.set()
        self._thread.result()

    def _hold(self) -> None:
        with transaction.atomic():
            self._lock()
            self._locked.set()
            self._release.wait(60)

    def _lock(self) -> None:
        type(self._row).objects.select_for_update().get(pk=self._row.pk)


class TableLocker(Locker):
    """Holds the whole table of a model: nobody reads it (on SQLite: writes it)."""

    def _lock(self) -> None:
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(f'LOCK TABLE "{self._row._meta.db_table}" IN ACCESS EXCLUSIVE MODE')

    def _hold(self) -> None:
        if connection.vendor != "mysql":
            super()._hold()
            return
        with connection.cursor() as cursor:  # it would end a transaction, and outlast it
            cursor.execute(f"LOCK TABLES {self._row._meta.db_table} WRITE")
            self._locked.set()
            self._release.wait(60)
            cursor.execute("UNLOCK TABLES")
