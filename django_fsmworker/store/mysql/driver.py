"""Connections of PyMySQL and mysqlclient."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from threading import Lock, Thread
from typing import Any

from django_fsmworker.store.driver import Driver, first_word
from django_fsmworker.thread_starter import prepare_to_start_threads, start_elsewhere

# What the server says with each answer; PyMySQL keeps it.
SERVER_STATUS_IN_TRANS = 1

# What makes and drops tables without a commit.
TEMPORARY = re.compile(r"\s*(?:CREATE|DROP)\s+(?:OR\s+REPLACE\s+)?TEMPORARY\b", re.IGNORECASE)

# What commits first (MySQL's manual, "Statements That Cause an Implicit Commit").
COMMITTING = frozenset(
    [
        "BEGIN",
        "START",
        "ALTER",
        "CREATE",
        "DROP",
        "RENAME",
        "TRUNCATE",
        "GRANT",
        "REVOKE",
        "LOCK",
    ]
)

# Seconds in which a thread that waits for its connection notices an exception.
LONGEST_DEAFNESS = 0.1


class MySQLDriver(Driver):
    """Neither driver can cancel a statement: the server is asked to, on another connection."""

    connects_to_server = True
    harmless = frozenset({"REPLACE", "TRUNCATE"})

    def commits_by_the_way(self, sql: str) -> bool:
        return first_word(sql) in COMMITTING and TEMPORARY.match(sql) is None

    def limit_connecting(self, wrapper: Any, seconds: float) -> None:
        wrapper.settings_dict["OPTIONS"].setdefault("connect_timeout", seconds)
        if wrapper.Database.__name__ == "pymysql":
            wrapper.get_new_connection = partial(_greeted_in_time, wrapper.get_new_connection)

    def open_undisturbed(self, wrapper: Any) -> None:
        # Only PyMySQL runs Python while it opens one.
        if wrapper.Database.__name__ == "pymysql":
            prepare_to_start_threads()
            wrapper.get_new_connection = partial(_opened_beside, wrapper.get_new_connection)

    def read_committed(self, wrapper: Any) -> None:
        wrapper.settings_dict["OPTIONS"]["isolation_level"] = "read committed"

    def limit_statements(self, wrapper: Any, seconds: float) -> None:
        wrapper.init_connection_state = partial(
            _begin_limited, wrapper, wrapper.init_connection_state, seconds
        )

    def is_in_transaction(self, wrapper: Any) -> bool:
        return bool(getattr(wrapper.connection, "server_status", 0) & SERVER_STATUS_IN_TRANS)

    def is_closed(self, wrapper: Any) -> bool:
        return not wrapper.connection.open

    def cancel(self, wrapper: Any) -> None:
        thread = wrapper.connection.thread_id()
        parameters = {**wrapper.get_connection_params(), "connect_timeout": 1, "read_timeout": 1}
        other = wrapper.Database.connect(**parameters)
        try:
            with other.cursor() as cursor:
                cursor.execute(f"KILL QUERY {int(thread)}")
        finally:
            other.close()

    def stop_reading(self, wrapper: Any) -> None:
        # PyMySQL leaves the rest of the answer where the next statement looks for its own.
        if not wrapper.in_atomic_block:
            wrapper.close()

    def socket_number(self, raw: Any) -> int | None:
        own = raw if hasattr(raw, "fileno") else getattr(raw, "_sock", None)  # PyMySQL's
        return None if own is None else own.fileno()


def _greeted_in_time(connect: Callable[[dict[str, Any]], Any], parameters: dict[str, Any]) -> Any:
    """PyMySQL waits without end for a server that lets it in and says nothing.

    Its own limit ends when there is a socket, and until it is greeted nobody can ``cut`` that.
    """
    usual = parameters.get("read_timeout")
    raw = connect({**parameters, "read_timeout": usual or parameters["connect_timeout"]})
    raw._read_timeout = usual
    return raw


def _opened_beside(connect: Callable[[dict[str, Any]], Any], parameters: dict[str, Any]) -> Any:
    """Open a connection on another thread, where no exception is injected.

    One that comes between PyMySQL and its socket would leave it open until garbage is collected.
    """
    opening: Future[Any] = Future()
    ended = Lock()
    ended.acquire()
    opening.add_done_callback(lambda _: ended.release())
    thread = Thread(
        target=_open, args=(opening, partial(copy_context().run, connect, parameters)),
        name="fsmworker-open", daemon=True,
    )  # fmt: skip
    try:
        start_elsewhere(thread)
        # Not for the future: an exception that comes while its lock is taken leaves it locked, and
        # the other thread would wait for it. One that comes while we wait without end is not heard.
        while not ended.acquire(timeout=LONGEST_DEAFNESS):
            pass
        return opening.result()
    except BaseException:
        opening.add_done_callback(_close_opened)
        raise


def _open(opening: Future[Any], connect: Callable[[], Any]) -> None:
    try:
        opening.set_result(connect())
    except BaseException as error:
        opening.set_exception(error)


def _close_opened(opening: Future[Any]) -> None:
    """Nobody waits for it any more."""
    if opening.exception() is None:
        opening.result().close()


def _begin_limited(wrapper: Any, begin: Callable[[], None], seconds: float) -> None:
    """MySQL knows a limit for what reads only, in milliseconds."""
    begin()
    name, limit = "max_statement_time", seconds
    if not wrapper.mysql_is_mariadb:
        name, limit = "max_execution_time", round(seconds * 1000)
    with wrapper.cursor() as cursor:
        cursor.execute(
            f"SET SESSION {name} = IF(@@{name} = 0 OR @@{name} > %s, %s, @@{name})", [limit, limit]
        )
