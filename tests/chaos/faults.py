"""Statements that fail at random, before they were executed or after."""

from __future__ import annotations

import atexit
import os
import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.db.backends.signals import connection_created

from django_fsmworker.store.drivers import cut

SQLITE_IOERR = 10


class Faults:
    """One statement in ``every`` fails with what the driver says of a lost connection.

    Half of them are executed, and where nothing else is going on committed, before they fail. Those
    of the thread that is ``spared`` are left alone: it looks at what comes of all that.
    """

    def __init__(self, every: int, seed: int, spared: threading.Thread | None = None) -> None:
        self._every = every
        self._spared = spared
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.statements: Counter[str] = Counter()

    def watch(self, connection: Any, **kwargs: Any) -> None:
        """Called for every connection that is opened."""
        if threading.current_thread() is self._spared:
            return
        if self.execute not in connection.execute_wrappers:
            connection.execute_wrappers.append(self.execute)
        if not isinstance(connection._commit, partial):  # it may have been opened before
            connection._commit = partial(self._run, connection, connection._commit)

    def execute(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        return self._run(context["connection"], execute, sql, params, many, context)

    def _run(self, connection: Any, function: Callable[..., Any], *arguments: Any) -> Any:
        fate = self._fate()
        if fate == "before":
            lose(connection)
        result = function(*arguments)
        if fate == "after":
            lose(connection)
        return result

    def _fate(self) -> str:
        with self._lock:
            drawn = self._random.randrange(2 * self._every)
            fate = {0: "before", 1: "after"}.get(drawn, "well")
            self.statements[fate] += 1
            return fate


def lose(connection: Any) -> None:
    """Raise, as Django's, the driver's own error."""
    with connection.wrap_database_errors:
        if connection.vendor == "sqlite":
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = SQLITE_IOERR
            raise error
        cut(connection)
        connection.connection.cursor().execute("SELECT 1")


@contextmanager
def faults(every: int, seed: int) -> Iterator[Faults]:
    """On every connection that a thread opens while the ``with`` block runs."""
    some = Faults(every, seed, threading.main_thread())
    connection_created.connect(some.watch)
    try:
        yield some
    finally:
        connection_created.disconnect(some.watch)


def from_environment() -> None:
    """For a process whose whole life is meant: ``TEST_FAULTS`` names how many, and the seed."""
    if words := os.environ.get("TEST_FAULTS"):
        every, seed = map(int, words.split(","))
        some = Faults(every, seed)
        connection_created.connect(some.watch, weak=False)
        atexit.register(lambda: print(f"faults: {dict(some.statements)}", flush=True))
