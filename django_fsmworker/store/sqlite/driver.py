"""Connections of Python's own ``sqlite3``."""

from __future__ import annotations

from typing import Any

from django_fsmworker.store.driver import Driver


class SQLiteDriver(Driver):
    """A connection is a file: it is open at once, and there is no server to lose."""

    harmless = frozenset({"REPLACE"})
    ending = frozenset({"COMMIT", "END"})

    def is_in_transaction(self, wrapper: Any) -> bool:
        return not self.is_closed(wrapper) and bool(wrapper.connection.in_transaction)

    def is_closed(self, wrapper: Any) -> bool:
        try:
            wrapper.connection.in_transaction  # noqa: B018 - it cannot be asked otherwise
        except wrapper.Database.ProgrammingError:
            return True
        return False

    def cancel(self, wrapper: Any) -> None:
        wrapper.connection.interrupt()
