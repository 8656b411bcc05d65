"""Counting the statements that this process sends, on whatever thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db.backends.signals import connection_created


class Statements:
    """Every statement on a connection that was opened while it was counting."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sent: list[str] = []

    def __len__(self) -> int:
        return len(self.sent)

    def starting_with(self, *words: str) -> list[str]:
        """Those that begin with one of ``words``, spaces aside."""
        return [sql for sql in self.sent if sql.split(maxsplit=1)[0].upper() in words]

    def count(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        with self._lock:
            self.sent.append(sql.strip())
        return execute(sql, params, many, context)


@contextmanager
def statements() -> Iterator[Statements]:
    """Count while the ``with`` block runs."""
    counted = Statements()

    def watch(connection: Any, **kwargs: Any) -> None:
        if counted.count not in connection.execute_wrappers:
            connection.execute_wrappers.append(counted.count)

    connection_created.connect(watch)
    try:
        yield counted
    finally:
        connection_created.disconnect(watch)
