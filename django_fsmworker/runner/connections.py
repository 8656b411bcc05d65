"""A thread's database connections between attempts.

A thread keeps its connection: reconnecting for every attempt halves the throughput. It gives one
up when the driver has seen an error on it, when it is aged, when it came from a pool (Django's has
four connections by default), or when the thread has had nothing to do for long.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from django.db import Error, connections

# libpq's words; UNKNOWN is a connection that is broken.
PQTRANS_IDLE, PQTRANS_UNKNOWN = 0, 4
# What a MariaDB or MySQL server says with each answer; PyMySQL keeps it.
SERVER_STATUS_IN_TRANS = 1
OLDEST = 600.0
LONGEST_IDLE = 60.0


class ThreadConnections:
    """The calling thread's connections; create it in the thread that uses it."""

    def __init__(self) -> None:
        self._all = [connections[alias] for alias in connections]
        self._since: dict[int, tuple[Any, float]] = {}

    def after_attempt(self, keep: bool = False) -> None:
        """Leave the connections as the next attempt expects them.

        With ``keep`` none is closed that still works: somebody may be reading from it.
        """
        for wrapper in self._all:
            if wrapper.connection is None:
                self._since.pop(id(wrapper), None)
                continue
            if wrapper.queries_log:
                wrapper.queries_log.clear()
            if _in_transaction(wrapper):
                discard(wrapper)
            elif self._is_to_close(wrapper) and not keep:
                wrapper.close()
            elif wrapper.errors_occurred:
                wrapper.close_if_unusable_or_obsolete()

    def close(self) -> None:
        """Give all of them up; a broken one is forgotten."""
        for wrapper in self._all:
            discard(wrapper)

    def left_open(self) -> bool:
        """Whether the attempt began a transaction and did not end it."""
        return any(
            wrapper.connection is not None and _in_transaction(wrapper) for wrapper in self._all
        )

    def lost(self) -> bool:
        """Whether a database went away under the attempt."""
        return any(self._was_lost(wrapper) for wrapper in self._all)

    def cancel(self) -> None:
        """End whatever statement runs on them; called from another thread."""
        for wrapper in self._all:
            raw = wrapper.connection
            if raw is None:
                continue
            if wrapper.vendor == "sqlite":
                raw.interrupt()
            elif wrapper.vendor == "mysql":
                _kill_statement(wrapper, raw.thread_id())
            elif hasattr(raw, "cancel_safe"):
                raw.cancel_safe(timeout=1.0)

    def _was_lost(self, wrapper: Any) -> bool:
        # Leaving a transaction that could not be rolled back, Django has reconnected already. A
        # connection that its owner closed is not broken.
        known, _ = self._since.get(id(wrapper), (None, 0.0))
        if getattr(known, "broken", False):
            return True
        if not wrapper.errors_occurred:
            return bool(getattr(wrapper.connection, "closed", False))
        if wrapper.connection is None:
            return not _answers(wrapper)
        # The driver may have read the server's farewell, but not seen the connection end yet.
        return not wrapper.is_usable() and bool(getattr(wrapper.connection, "closed", False))

    def _is_to_close(self, wrapper: Any) -> bool:
        pooled = wrapper.settings_dict["OPTIONS"].get("pool", False)
        return pooled or self._age(wrapper) > OLDEST

    def _age(self, wrapper: Any) -> float:
        raw, since = self._since.get(id(wrapper), (None, 0.0))
        if raw is not wrapper.connection:
            since = time.monotonic()
            self._since[id(wrapper)] = wrapper.connection, since
        return time.monotonic() - since


def _in_transaction(wrapper: Any) -> bool:
    """Also one begun behind Django's back."""
    if wrapper.in_atomic_block or wrapper.autocommit != wrapper.settings_dict["AUTOCOMMIT"]:
        return True
    if wrapper.vendor == "sqlite":
        return bool(wrapper.connection.in_transaction)
    if wrapper.vendor == "mysql":
        return bool(getattr(wrapper.connection, "server_status", 0) & SERVER_STATUS_IN_TRANS)
    pgconn = getattr(wrapper.connection, "pgconn", None)
    return pgconn is not None and pgconn.transaction_status not in (PQTRANS_IDLE, PQTRANS_UNKNOWN)


def _kill_statement(wrapper: Any, thread: int) -> None:
    """By way of another connection: this one is busy, and its driver has no way to cancel."""
    parameters = {**wrapper.get_connection_params(), "connect_timeout": 1}
    other = wrapper.Database.connect(**parameters)
    try:
        with other.cursor() as cursor:
            cursor.execute(f"KILL QUERY {int(thread)}")
    finally:
        other.close()


def _answers(wrapper: Any) -> bool:
    try:
        wrapper.ensure_connection()
    except Error:
        return False
    return True


def discard(wrapper: Any) -> None:
    """Close a connection whatever state it is in."""
    if wrapper.connection is None:
        return
    if wrapper.vendor == "postgresql":
        wrapper.connection.close()  # a pool must not hand it to anybody else
    wrapper.in_atomic_block = False
    wrapper.savepoint_ids = []
    wrapper.atomic_blocks = []
    wrapper.needs_rollback = False
    wrapper.run_on_commit = []
    with suppress(Error):  # PyMySQL refuses to close a connection twice
        wrapper.close()
