"""Hints on SQLite: nobody sends any, the file's own version tells that somebody has written.

``PRAGMA data_version`` changes when another connection has committed, of this process or another.
It reads the version in the file's header (with WAL: in shared memory) and no table.
"""

from __future__ import annotations

import time

from django.db import connections

from django_fsmworker.store.hints.interface import EVERY_MODEL, Hints, Listener

LOOK_INTERVAL = 0.15


class SQLiteHints(Hints):
    """Any commit may have made any row due."""

    may_be_deaf = False

    def notify(self, payload: str) -> bool:
        return False

    def listen(self) -> Listener:
        return SQLiteListener(self.alias)


class SQLiteListener(Listener):
    """Looks seven times a second."""

    def __init__(self, alias: str) -> None:
        self._wrapper = connections[alias]
        self._wrapper.ensure_connection()
        self._version = self._read()

    def wait(self, timeout: float) -> list[str]:
        time.sleep(min(timeout, LOOK_INTERVAL))
        before, self._version = self._version, self._read()
        return [] if before == self._version else [f"{EVERY_MODEL} soon"]

    def close(self) -> None:
        self._wrapper.close()

    def _read(self) -> int:
        with self._wrapper.wrap_database_errors:
            # Past Django's cursor, whose bookkeeping costs more than the question.
            ((version,),) = self._wrapper.connection.execute("PRAGMA data_version")
            return int(version)
