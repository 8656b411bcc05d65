"""Noticing that user code has changed the session of a connection that others use after it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache, partial
from typing import Any

from django.db.transaction import TransactionManagementError

from django_fsmworker.logs import shown
from django_fsmworker.store.drivers import driver_of

# The texts of the ORM's statements come again and again.
KNOWN_STATEMENTS = 2000


class SessionWatch:
    """Looks at the statements of one connection; an ``execute_wrapper`` of Django's.

    What is sent while a connection opens, also by receivers of ``connection_created``, makes the
    session what everybody expects, and is not counted. Wrappers that such receivers install stay;
    ``at_rest`` are all that are to be there; ``restore()`` takes off what other code leaves behind.
    """

    def __init__(self, wrapper: Any) -> None:
        self.changed = False
        self._wrapper = wrapper
        self._changes = _remembered(driver_of(wrapper).changes_session)
        self._ends = _remembered(driver_of(wrapper).ends_transaction)
        self._connect = wrapper.connect
        wrapper.connect = self._open
        wrapper.make_cursor = partial(self._watched, wrapper.make_cursor)
        wrapper.make_debug_cursor = partial(self._watched, wrapper.make_debug_cursor)
        self._others = [each for each in wrapper.execute_wrappers if not _is_watch(each)]
        wrapper.session_watch = self
        self.restore()

    def __call__(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        text = _text(sql, self._wrapper)
        if self._wrapper.in_atomic_block and self._ends(text):
            raise TransactionManagementError(
                f"{shown(text)} was sent inside of transaction.atomic(), which would end it "
                f"unnoticed; raise an exception, or call transaction.set_rollback(True)."
            )
        if not self.changed:
            self.changed = self._changes(text)
        return execute(sql, params, many, context)

    def restore(self) -> None:
        """Take off what user code has put around statements, and did not take off itself."""
        self.at_rest = [*self._others, self]
        self._wrapper.execute_wrappers = list(self.at_rest)

    def _open(self) -> None:
        before = list(self._wrapper.execute_wrappers)
        self._connect()
        self._others += [each for each in self._wrapper.execute_wrappers if each not in before]
        self.changed = False

    def _watched(self, make: Callable[[Any], Any], raw: Any) -> Any:
        """Django's cursor around the driver's: no wrapper of Django's sees its ``callproc()``."""
        cursor = make(raw)
        cursor_class: Any = type(cursor)
        cursor.__class__ = _calling_procedures(cursor_class)
        return cursor


class _CallsProcedures:
    """What a cursor does beside Django's own class."""

    db: Any

    def callproc(self, *args: Any, **kwargs: Any) -> Any:
        self.db.session_watch.changed = True  # what it does inside is not seen
        return super().callproc(*args, **kwargs)  # type: ignore[misc]


@cache
def _calling_procedures(cursor_class: Any) -> Any:
    return type(cursor_class.__name__, (_CallsProcedures, cursor_class), {})


def _is_watch(execute_wrapper: Any) -> bool:
    return isinstance(execute_wrapper, SessionWatch)


def session_changed(wrapper: Any) -> bool:
    """Whether the session has anything that a new one has not: it is no session for others.

    False where nothing watches it, as in a test, whose connection is its own.
    """
    watch: SessionWatch | None = getattr(wrapper, "session_watch", None)
    return watch is not None and watch.changed


def changes_transaction(wrapper: Any, sql: Any) -> bool:
    """Whether a statement leaves something that the next one of its transaction finds."""
    return _remembered(driver_of(wrapper).changes_transaction)(_text(sql, wrapper))


def ends_transaction(wrapper: Any, sql: Any) -> bool:
    """Whether a statement ends the transaction in which it is sent, if only by the way."""
    driver, text = driver_of(wrapper), _text(sql, wrapper)
    return _remembered(driver.ends_transaction)(text) or _remembered(driver.commits_by_the_way)(
        text
    )


def may_write(wrapper: Any, sql: Any) -> bool:
    """Whether a statement may write rows."""
    return _remembered(driver_of(wrapper).may_write)(_text(sql, wrapper))


@cache
def _remembered(ask: Callable[[str], bool]) -> Callable[[str], bool]:
    """A question of a driver about the text of a statement, with the answers of the last ones."""
    return lru_cache(KNOWN_STATEMENTS)(ask)


def _text(sql: Any, wrapper: Any) -> str:
    """A statement as text, also one that was composed by the driver's own means."""
    if isinstance(sql, str):
        return sql
    if hasattr(sql, "as_string"):
        return str(sql.as_string(wrapper.connection))
    return sql.decode(errors="replace") if isinstance(sql, bytes) else str(sql)
