"""Connections of Python's own ``sqlite3``."""

from __future__ import annotations

from typing import Any

from django_fsmworker.store.driver import Driver


class SQLiteDriver(Driver):
    """A connection is a file: it is open at once, and there is no server to lose."""

    harmless = frozenset({"REPLACE"})
    ending = frozenset({"COMMIT", "END"})

    def is_in_transaction(self, wrapper: Any) -> bool:
        try:
            return bool(wrapper.connection.in_transaction)
        except wrapper.Database.ProgrammingError:  # somebody has closed it behind Django's back
            return False

    def cancel(self, wrapper: Any) -> None:
        wrapper.connection.interrupt()
