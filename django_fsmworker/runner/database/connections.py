"""A thread's database connections between attempts.

A thread keeps its connection: reconnecting for every attempt halves the throughput. It gives one
up when the driver has seen an error on it, when it is aged, when it came from a pool (Django's has
four connections by default), or when the thread has had nothing to do for long.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from django.db import Error, connections

# libpq's words; UNKNOWN is a connection that is broken.
PQTRANS_IDLE, PQTRANS_UNKNOWN = 0, 4
# What a MariaDB or MySQL server says with each answer; PyMySQL keeps it.
SERVER_STATUS_IN_TRANS = 1
OLDEST = 600.0
LONGEST_IDLE = 60.0

# Seconds in which a connection has to open; the drivers' own patience is minutes.
CONNECT_TIMEOUT = 3


def use_own_connections(*, beside_pool: bool) -> list[Any]:
    """Give the calling thread connections that do not take minutes to open, one a database.

    Those of the engine's own threads are opened beside Django's pool: it may be small, it is the
    checks', and after an outage it may take a minute to try again.
    """
    for alias in connections:
        connections[alias] = _own(connections[alias], beside_pool)
    return [connections[alias] for alias in connections]


@contextmanager
def own_connections(aliases: Collection[str]) -> Iterator[None]:
    """The same for a thread that has other things to do afterwards: what was there is put back."""
    before = {alias: connections[alias] for alias in connections}
    use_own_connections(beside_pool=True)
    try:
        yield
    finally:
        for alias in aliases:
            discard(connections[alias])
        for alias, wrapper in before.items():
            connections[alias] = wrapper


def _own(wrapper: Any, beside_pool: bool) -> Any:
    if wrapper.vendor not in ("mysql", "postgresql"):
        return wrapper
    own = wrapper.copy()
    own.execute_wrappers = wrapper.execute_wrappers
    options = own.settings_dict["OPTIONS"]
    options.setdefault("connect_timeout", CONNECT_TIMEOUT)
    if beside_pool:
        options.pop("pool", None)
    if own.Database.__name__ == "pymysql":
        own.get_new_connection = partial(_greeted_in_time, own.get_new_connection)
    return own


def _greeted_in_time(connect: Callable[[dict[str, Any]], Any], parameters: dict[str, Any]) -> Any:
    """PyMySQL waits without end for a server that lets it in and says nothing.

    Its patience ends when there is a socket, and until it is greeted nobody can ``cut`` that.
    """
    usual = parameters.get("read_timeout")
    raw = connect({**parameters, "read_timeout": usual or parameters["connect_timeout"]})
    raw._read_timeout = usual
    return raw


class ThreadConnections:
    """The calling thread's connections; create it in the thread that uses it."""

    def __init__(self, *, beside_pool: bool = False) -> None:
        self._all = use_own_connections(beside_pool=beside_pool)
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
            # One that has seen an error is not asked whether it works: the answer may never come,
            # and no deadline watches this.
            if _in_transaction(wrapper) or (wrapper.errors_occurred and not keep):
                discard(wrapper)
            elif self._is_to_close(wrapper) and not keep:
                wrapper.close()
            elif wrapper.errors_occurred:
                wrapper.close_if_unusable_or_obsolete()

    def drop_older_than(self, moment: Callable[[str], float]) -> None:
        """Give up those from before a moment of their database's, when others were lost.

        They may be lost, too, and nobody knows: who uses one finds out, or waits in vain.
        """
        for wrapper in self._all if self._since else ():  # most checks use none
            raw, since = self._since.get(id(wrapper), (None, 0.0))
            if raw is not None and raw is wrapper.connection and since < moment(wrapper.alias):
                discard(wrapper)

    def close(self) -> None:
        """Give all of them up; a broken one is forgotten."""
        for wrapper in self._all:
            discard(wrapper)

    def left_open(self) -> bool:
        """Whether the attempt began a transaction and did not end it."""
        for wrapper in self._all:  # a loop: asked after every check
            if wrapper.connection is not None and _in_transaction(wrapper):
                return True
        return False

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

    def cut(self) -> bool:
        """Let go of those that can be let go of, for a thread that waits for a server in vain."""
        return True in [cut(wrapper) for wrapper in self._all]

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
    parameters = {**wrapper.get_connection_params(), "connect_timeout": 1, "read_timeout": 1}
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


def cut(wrapper: Any) -> bool:
    """End whatever another thread waits for on its connection; False if there is no way to.

    Shutting the socket down is safe beside the driver: it reads that the server has gone.
    """
    raw = wrapper.connection
    with suppress(wrapper.Database.Error, OSError):  # it was closed meanwhile
        if (number := _socket_number(raw)) is not None:
            with socket.socket(fileno=os.dup(number)) as same:
                if _socket_number(raw) == number:  # otherwise it may be somebody else's by now
                    same.shutdown(socket.SHUT_RDWR)
                    return True
    return False


def _socket_number(raw: Any) -> int | None:
    """The number of a connection's socket; PyMySQL alone does not tell it."""
    if hasattr(raw, "fileno"):
        number: int = raw.fileno()
        return number
    own = getattr(raw, "_sock", None)
    return None if own is None else own.fileno()
