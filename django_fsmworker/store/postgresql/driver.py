"""Psycopg, in its third version or its second: connections, and shortcuts past it and Django.

The shortcuts are kept plans of claims, arrays as text, and plain timestamps.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC
from functools import cache, partial
from typing import Any

from django_fsmworker.logs import logger_for
from django_fsmworker.store.driver import Driver
from django_fsmworker.store.fence import Lane

logger = logger_for(__name__)

# libpq's words; UNKNOWN is a connection that is broken.
PQTRANS_IDLE, PQTRANS_UNKNOWN = 0, 4

# How poolers put it that they pass no settings on to the server.
REFUSED_OPTIONS = ("unsupported startup parameter", "command-line options")


def _has_service(parameters: dict[str, Any]) -> bool:
    """Whether a file that only libpq reads may have options of its own."""
    return "service" in parameters or "PGSERVICE" in os.environ


class PostgreSQLDriver(Driver):
    """Psycopg cancels statements by itself, and may have its connections from a pool."""

    connects_to_server = True
    harmless = frozenset(
        [
            "NOTIFY",
            "MERGE",
            "TRUNCATE",
            "COPY",
            "LOCK",
            "TABLE",
            "REFRESH",
            "FETCH",
            "MOVE",
            "CLOSE",
            "REINDEX",
        ]
    )
    harmless_set = frozenset({"LOCAL", "TRANSACTION", "CONSTRAINTS"})
    ending = frozenset({"COMMIT", "END", "ABORT"})

    def __init__(self) -> None:
        self._without_options: set[tuple[str, Any, Any]] = set()

    def limit_connecting(self, wrapper: Any, seconds: float) -> None:
        wrapper.settings_dict["OPTIONS"].setdefault("connect_timeout", seconds)

    def read_committed(self, wrapper: Any) -> None:
        wrapper.settings_dict["OPTIONS"].pop("isolation_level", None)
        self._begin_with(wrapper, "default_transaction_isolation", r"read\ committed")

    def limit_statements(self, wrapper: Any, seconds: float) -> None:
        self._begin_with(wrapper, "statement_timeout", f"{seconds * 1000:.0f}")

    def _begin_with(self, wrapper: Any, name: str, value: str) -> None:
        """Open the session with a setting, which is no statement: behind a pooler that would reach
        others. Options of the project's own come later, and take precedence.
        """
        connect = wrapper.get_new_connection
        wrapper.get_new_connection = partial(self._connect, wrapper, connect, f"-c {name}={value}")

    def _connect(
        self, wrapper: Any, connect: Callable[[Any], Any], option: str, parameters: dict[str, Any]
    ) -> Any:
        server = wrapper.alias, parameters.get("host"), parameters.get("port")
        if server in self._without_options or _has_service(parameters):
            return connect(parameters)
        given = parameters.get("options") or os.environ.get("PGOPTIONS", "")
        try:
            return connect({**parameters, "options": f"{option} {given}".strip()})
        except wrapper.Database.Error as error:
            if not any(words in str(error) for words in REFUSED_OPTIONS):
                raise
            raw = connect(parameters)  # were it the project's own, that would be refused, too
        self._without_options.add(server)
        logger.info(
            "What %r is behind takes no settings for a session; runners do without.",
            wrapper.alias,
            extra={"action": "session_settings"},
        )
        return raw

    def is_in_transaction(self, wrapper: Any) -> bool:
        pgconn = getattr(wrapper.connection, "pgconn", None)
        idle = PQTRANS_IDLE, PQTRANS_UNKNOWN
        return pgconn is not None and pgconn.transaction_status not in idle

    def is_closed(self, wrapper: Any) -> bool:
        return bool(wrapper.connection.closed)

    def cancel(self, wrapper: Any) -> None:
        if hasattr(wrapper.connection, "cancel_safe"):
            wrapper.connection.cancel_safe(timeout=1.0)

    def discard(self, wrapper: Any) -> None:
        if wrapper.connection is not None:
            wrapper.connection.close()  # a pool must not hand it to anybody else
        super().discard(wrapper)


FEW, LITTLE_ROOM = 10, 1000
SOON = 0.005  # seconds
BY_ITSELF = 1_000_000


class KeptPlan:
    """The server's plan of one model's claims, as long as it is worth keeping.

    A statement that the server has parsed and planned before takes a third less from idle to a
    check. It is kept only where a session lasts, which hints that arrive prove, and for a runner
    that finds little to do: it is a plan for the table as it was, which may read all of many rows
    that came since. So the claim after one that was slow, or found much, is planned anew, as are
    all large ones, for which it is nothing beside the rows.
    """

    def __init__(self) -> None:
        self._version = 0
        self._is_quiet = False

    def suits(self, lanes: Sequence[Lane]) -> bool:
        """Whether the next claim, of these lanes, is to use it."""
        return self._is_quiet and sum(lane.limit for lane in lanes) <= LITTLE_ROOM

    def versioned(self, sql: str) -> str:
        """The statement with the plan's number: under another one it is planned anew."""
        return f"{sql} -- {self._version}"

    def took(self, seconds: float, found: int) -> None:
        """A claim took so long, by this plan or not, and so many rows."""
        quick = seconds <= SOON
        self._is_quiet = quick and found <= FEW
        if not quick:
            self.drop()

    def drop(self) -> None:
        """Plan the next one anew."""
        self._version += 1


def can_prepare(connection: Any) -> bool:
    """Whether its driver is psycopg 3."""
    return hasattr(connection.Database, "ClientCursor")


def preparing_cursor(connection: Any) -> Any:
    """A cursor like Django's, but what it executes the server keeps."""
    connection.ensure_connection()
    raw = connection.connection
    if raw.prepare_threshold is None:  # Django's default, which forbids it to everybody
        raw.prepare_threshold = BY_ITSELF
    wrap = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
    return wrap(_preparing(connection.Database)(raw))


@cache
def _preparing(driver: Any) -> Any:
    class Preparing(driver.Cursor):  # type: ignore[misc]
        def execute(self, query: Any, params: Any = None) -> Any:
            return super().execute(query, params, prepare=True)

    return Preparing


def array(values: Iterable[object]) -> str:
    """Numbers, booleans, names of states and None, for a parameter that is cast to an array.

    In PostgreSQL's text format (its manual, "Array Input and Output Syntax").
    None of these needs an escape: a state's name is a Python identifier, which is quoted all the
    same, since one may be called ``null``. The driver looks at the type of each element instead,
    which takes four times as long: eight arrays of a thousand rows for every settling. Most of
    those hold one value only, a thousand times.
    """
    found = list(values)
    if found and found.count(found[0]) == len(found):
        return f"{{{','.join([_element(found[0])] * len(found))}}}"
    if set(map(type, found)) == {int}:
        return f"{{{','.join(map(str, found))}}}"
    return f"{{{','.join(map(_element, found))}}}"


def key_array(values: list[Any]) -> list[Any] | str:
    """The values of a key's column for a parameter that is cast to an array; see ``array()``."""
    return array(values) if set(map(type, values)) == {int} else values


def text_array(values: Sequence[str]) -> str:
    """Any text; most of what a batch has of one kind is the same."""
    if len(set(values)) == 1:
        return f"{{{','.join([_quoted(values[0])] * len(values))}}}"
    return f"{{{','.join(map(_quoted, values))}}}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    return f'"{value}"' if isinstance(value, str) else str(value)


def load_plainly(connection: Any, cursor: Any) -> None:
    """Let ``cursor`` (Django's) load timestamps past Django's loader, if that changes nothing.

    Django puts a loader written in Python around the driver's, which sets each value's time zone.
    Where that is UTC, as it is unless a database has a ``TIME_ZONE``, the driver's own value is the
    same; a claim of a thousand rows loads three thousand of them.
    """
    driver = connection.Database  # psycopg; its second version has no adapters
    if connection.timezone is not UTC or not hasattr(driver, "adapters"):
        return
    oid = driver.adapters.types["timestamptz"].oid
    plain = driver.adapters.get_loader(oid, driver.pq.Format.TEXT)
    if plain is not None:
        cursor.cursor.adapters.register_loader("timestamptz", plain)
