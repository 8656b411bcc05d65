"""The PostgreSQL server under test, taken away and given back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import connections


class Server:
    """The PostgreSQL server, seen from a database that stays up."""

    def __init__(self) -> None:
        self._name = connections["default"].settings_dict["NAME"]
        self._connection = psycopg.connect(os.environ["TEST_DATABASE_URL"], autocommit=True)

    def end_all_connections(self) -> int:
        ended = self._connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s",
            [self._name],
        )
        (number,) = ended.fetchone() or (0,)
        return int(number)

    def end_waiting(self) -> int:
        """End the connections that wait for a lock; how many there were."""
        ended = self._connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = %s AND wait_event_type = 'Lock'",
            [self._name],
        )
        (number,) = ended.fetchone() or (0,)
        return int(number)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody gets in while the ``with`` block runs."""
        self._allow_connections(False)
        try:
            self.end_all_connections()
            yield
        finally:
            self._allow_connections(True)

    def _allow_connections(self, allowed: bool) -> None:
        self._connection.execute(f'ALTER DATABASE "{self._name}" ALLOW_CONNECTIONS {allowed}')

    def close(self) -> None:
        self._connection.close()
