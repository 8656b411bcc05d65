"""Hints on PostgreSQL: LISTEN and NOTIFY on one channel a database."""

from __future__ import annotations

import selectors
import socket
from contextlib import suppress
from typing import Any

from django.db import connections

from django_fsmworker.models.hints import Hint
from django_fsmworker.store.hints.interface import HintTransport, Listener

CHANNEL = "django_fsmworker"

# A transaction that notifies holds a lock while it commits, one for the whole cluster. This one has
# nothing to make durable, so it does not wait for the disk meanwhile.
NOTIFY = "SELECT set_config('synchronous_commit', 'off', true), pg_notify(%s, %s)"

PQTRANS_IDLE = 0


class PostgreSQLHints(HintTransport):
    """Notifications, each by an autocommit statement of its own right after the user's commit."""

    is_sent = True

    def send(self, hint: Hint) -> bool:
        wrapper = connections[self.alias]
        raw = wrapper.connection
        # Only psycopg 3 has this attribute. The status also tells of a BEGIN behind Django's back.
        pgconn = getattr(raw, "pgconn", None)
        if pgconn is None or pgconn.transaction_status != PQTRANS_IDLE or not raw.autocommit:
            return False
        try:
            # Past Django's cursor: a hint is nobody's query to count, log or forbid.
            raw.execute(NOTIFY, [CHANNEL, hint.encode()])
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
        self._arrived = arrived = list[bytes]()
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
                self._raw.pgconn.notify_handler = lambda each: arrived.append(each.extra)
                self._raw.execute(f"LISTEN {CHANNEL}")
        except BaseException:
            self.close()
            raise

    def wait(self, timeout: float) -> list[Hint | None]:
        if not self._arrived:
            self._selector.select(timeout)
        pgconn = self._raw.pgconn  # the driver would decode, and any role may send any bytes
        with self._errors:
            pgconn.consume_input()
            while notification := pgconn.notifies():
                self._arrived.append(notification.extra)
        arrived = [Hint.parse(payload.decode(errors="replace")) for payload in self._arrived]
        self._arrived.clear()
        return arrived

    def interrupt(self) -> None:
        with suppress(OSError):  # closed meanwhile
            self._interrupt.send(b"!")

    def close(self) -> None:
        self._selector.close()
        self._interrupted.close()
        self._interrupt.close()
        self._raw.close()
