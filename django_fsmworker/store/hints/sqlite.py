"""Hints on SQLite: nobody sends any; a listener sees by the file's version that somebody wrote.

``PRAGMA data_version`` changes when another connection has committed, of this process or another.
It reads the version in the file's header (with WAL: in shared memory) and no table.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections

from django_fsmworker.models.hints import EVERY_MODEL, SOON, Hint
from django_fsmworker.store.hints.interface import HintTransport, Listener

LOOK_INTERVAL = 0.15
CHANGED = Hint(EVERY_MODEL, SOON)  # any commit may have made any row due


class SQLiteHints(HintTransport):
    """The file's version, which every commit changes."""

    is_sent = False

    def send(self, hint: Hint) -> bool:
        return False

    def listen(self) -> Listener:
        return SQLiteListener(self.alias)


class SQLiteListener(Listener):
    """A connection that looks at the file's version seven times a second."""

    def __init__(self, alias: str) -> None:
        self._wrapper = connections[alias]
        self._wrapper.ensure_connection()
        self._lock = threading.Lock()
        self._version = _read(self._wrapper)

    def wait(self, timeout: float) -> list[Hint | None]:
        time.sleep(min(timeout, LOOK_INTERVAL))
        with self._lock:
            before, self._version = self._version, _read(self._wrapper)
        return [] if before == self._version else [CHANGED]

    @contextmanager
    def unheard(self, wrapper: Any) -> Iterator[None]:
        """To a connection its own commits are no changes: so it tells whether somebody else wrote.

        Both are asked while the listener does not look; the versions of one are not the other's.
        """
        wrapper.ensure_connection()
        with self._lock:
            if self._wrapper.connection is None:  # closed meanwhile
                yield
                return
            missed = _read(self._wrapper) != self._version
            before = _read(wrapper)
            yield
            version = _read(self._wrapper)
            if not missed and _read(wrapper) == before:
                self._version = version

    def close(self) -> None:
        with self._lock:
            self._wrapper.close()


def _read(wrapper: Any) -> int:
    with wrapper.wrap_database_errors:
        # Past Django's cursor, whose bookkeeping costs more than the question.
        ((version,),) = wrapper.connection.execute("PRAGMA data_version")
        return int(version)
