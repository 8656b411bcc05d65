"""Noticing that user code has changed the session of a connection that others use after it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from django_fsmworker.store.drivers import driver_of

# The texts of the ORM's statements come again and again.
KNOWN_STATEMENTS = 2000


class SessionWatch:
    """Looks at the statements of one connection; an ``execute_wrapper`` of Django's.

    What is sent while a connection opens, also by receivers of ``connection_created``, makes the
    session what everybody expects, and is not counted.
    """

    def __init__(self, wrapper: Any) -> None:
        self.changed = False
        self._wrapper = wrapper
        self._changes = _changes_session(driver_of(wrapper))
        self._connect = wrapper.connect
        wrapper.connect = self._open
        others = [each for each in wrapper.execute_wrappers if not isinstance(each, SessionWatch)]
        wrapper.execute_wrappers = [*others, self]

    def __call__(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        if not self.changed:
            self.changed = self._changes(_text(sql, self._wrapper))
        return execute(sql, params, many, context)

    def _open(self) -> None:
        self._connect()
        self.changed = False


def session_changed(wrapper: Any) -> bool:
    """Whether the session has anything that a new one has not: it is no session for others.

    False where nothing watches it, as in a test, whose connection is its own.
    """
    return any(isinstance(each, SessionWatch) and each.changed for each in wrapper.execute_wrappers)


def changes_transaction(wrapper: Any, sql: Any) -> bool:
    """Whether a statement leaves something that the next one of its transaction finds."""
    return bool(_changes_transaction(driver_of(wrapper))(_text(sql, wrapper)))


def ends_transaction(wrapper: Any, sql: Any) -> bool:
    """Whether a statement ends the transaction in which it is sent."""
    return bool(_ends_transaction(driver_of(wrapper))(_text(sql, wrapper)))


def may_write(wrapper: Any, sql: Any) -> bool:
    """Whether a statement may write rows."""
    return bool(_may_write(driver_of(wrapper))(_text(sql, wrapper)))


@lru_cache
def _changes_session(driver: Any) -> Any:
    return lru_cache(KNOWN_STATEMENTS)(driver.changes_session)


@lru_cache
def _changes_transaction(driver: Any) -> Any:
    return lru_cache(KNOWN_STATEMENTS)(driver.changes_transaction)


@lru_cache
def _may_write(driver: Any) -> Any:
    return lru_cache(KNOWN_STATEMENTS)(driver.may_write)


@lru_cache
def _ends_transaction(driver: Any) -> Any:
    return lru_cache(KNOWN_STATEMENTS)(driver.ends_transaction)


def _text(sql: Any, wrapper: Any) -> str:
    """A statement as text, also one that was composed by the driver's own means."""
    if isinstance(sql, str):
        return sql
    if hasattr(sql, "as_string"):
        return str(sql.as_string(wrapper.connection))
    return sql.decode(errors="replace") if isinstance(sql, bytes) else str(sql)
