"""Hints on PostgreSQL: LISTEN and NOTIFY on one channel a database."""

from __future__ import annotations

import selectors
import socket
from contextlib import suppress
from typing import Any

from django.db import connections

from django_fsmworker.store.hints.interface import Hints, Listener

CHANNEL = "django_fsmworker"

# A transaction that notifies holds a lock while it commits, one for the whole cluster. This one has
# nothing to make durable, so it does not wait for the disk meanwhile.
NOTIFY = "SELECT set_config('synchronous_commit', 'off', true), pg_notify(%s, %s)"

PQTRANS_IDLE = 0


class PostgreSQLHints(Hints):
    """Sent by an autocommit statement of its own, right after the commit that it tells of."""

    may_be_deaf = True  # behind PgBouncer in transaction mode

    def notify(self, payload: str) -> bool:
        wrapper = connections[self.alias]
        raw = wrapper.connection
        # Only psycopg 3 has this attribute. The status also tells of a BEGIN behind Django's back.
        pgconn = getattr(raw, "pgconn", None)
        if pgconn is None or pgconn.transaction_status != PQTRANS_IDLE or not raw.autocommit:
            return False
        try:
            # Past Django's cursor: a hint is nobody's query to count, log or forbid.
            raw.execute(NOTIFY, [CHANNEL, payload])
        except Exception:
            wrapper.errors_occurred = True  # Django looks after the connection at the request's end
            raise
        return True

    def listen(self) -> Listener:
        return PostgreSQLListener(self.alias)


class PostgreSQLListener(Listener):
    """A connection of its own, beside Django's pool, that does nothing but listen.

    It waits for its socket and for a word from this process: the driver's own wait looks up ten
    times a second, which would be most of what an idle runner costs.
    """

    def __init__(self, alias: str) -> None:
        wrapper: Any = connections[alias]
        self._errors = wrapper.wrap_database_errors
        with self._errors:
            parameters = {**wrapper.get_connection_params(), "autocommit": True}
            self._raw = wrapper.Database.connect(**parameters)
        self._interrupted, self._interrupt = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._raw.fileno(), selectors.EVENT_READ)
        self._selector.register(self._interrupted, selectors.EVENT_READ)
        try:
            with self._errors:
                self._raw.execute(f"LISTEN {CHANNEL}")
                self._early = self._arrived()
        except BaseException:
            self.close()
            raise

    def wait(self, timeout: float) -> list[str]:
        if not self._early:
            self._selector.select(timeout)
        with self._errors:
            heard, self._early = self._early + self._arrived(), []
        return heard

    def interrupt(self) -> None:
        with suppress(OSError):  # closed meanwhile
            self._interrupt.send(b"!")

    def close(self) -> None:
        self._selector.close()
        self._interrupted.close()
        self._interrupt.close()
        self._raw.close()

    def _arrived(self) -> list[str]:
        return [each.payload for each in self._raw.notifies(timeout=0)]
