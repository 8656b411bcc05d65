"""The statements that this process sends, on whatever thread, and what came of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db.backends.signals import connection_created


class Statements:
    """Every statement on a connection that was opened while it was counting."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sent: list[str] = []
        self.sent_at: list[float] = []
        self.unanswered = 0
        self.errors: list[Exception] = []

    def __len__(self) -> int:
        return len(self.sent)

    def starting_with(self, *words: str) -> list[str]:
        """Those that begin with one of ``words``, spaces aside."""
        return [sql for sql in self.sent if sql.split(maxsplit=1)[0].upper() in words]

    def count(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        with self._lock:
            self.sent.append(sql.strip())
            self.sent_at.append(time.monotonic())
            self.unanswered += 1
        try:
            return execute(sql, params, many, context)
        except Exception as error:
            self.errors.append(error)
            raise
        finally:
            with self._lock:
                self.unanswered -= 1


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
