"""The server under test, taken away and given back: PostgreSQL, or MariaDB and MySQL."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.db import connections


class Server(ABC):
    """Seen from a connection that stays up."""

    # What a check may send.
    sleep: str
    end_this_connection: str

    def __init__(self) -> None:
        self._name = connections["default"].settings_dict["NAME"]

    @abstractmethod
    def end_all_connections(self) -> int:
        """End all connections to the test's database; how many there were."""

    @abstractmethod
    def connections(self, without: Collection[int] = ()) -> int:
        """How many there are, beside those with one of these numbers of the server's."""

    def other_connections(self) -> int:
        """How many there are beside the calling thread's."""
        return self.connections() - 1

    @abstractmethod
    def end_waiting(self) -> int:
        """End the connections that wait for a lock; how many there were."""

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody gets in while the ``with`` block runs."""
        self._allow_connections(False)
        try:
            self.end_all_connections()
            yield
        finally:
            self._allow_connections(True)

    @abstractmethod
    def _allow_connections(self, allowed: bool) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


class PostgreSQLServer(Server):
    """Seen from a database that stays up."""

    sleep = "SELECT pg_sleep(30)"
    end_this_connection = "SELECT pg_terminate_backend(pg_backend_pid())"

    def __init__(self) -> None:
        import psycopg

        super().__init__()
        self._connection = psycopg.connect(os.environ["TEST_DATABASE_URL"], autocommit=True)

    def end_all_connections(self) -> int:
        return self._number(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s"
        )

    def end_waiting(self) -> int:
        return self._number(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = %s AND wait_event_type = 'Lock'"
        )

    def connections(self, without: Collection[int] = ()) -> int:
        found = self._connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s", [self._name]
        )
        return sum(pid not in without for (pid,) in found)

    def close(self) -> None:
        self._connection.close()

    def _number(self, sql: str) -> int:
        (number,) = self._connection.execute(sql, [self._name]).fetchone() or (0,)
        return int(number)

    def _allow_connections(self, allowed: bool) -> None:
        self._connection.execute(f'ALTER DATABASE "{self._name}" ALLOW_CONNECTIONS {allowed}')


class MySQLServer(Server):
    """Seen from a connection without a database."""

    sleep = "SELECT 1 FROM (SELECT SLEEP(30)) AS slept"
    end_this_connection = "KILL CONNECTION_ID()"

    def __init__(self) -> None:
        from tests.mariadb import connect

        super().__init__()
        self._connection = connect(os.environ["TEST_MYSQL_URL"])

    def end_all_connections(self) -> int:
        return self._kill(self._threads())

    def end_waiting(self) -> int:
        time.sleep(0.15)  # the view is made anew when nobody has looked for 0.1 s
        waiting = self._execute(
            "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx "
            "WHERE trx_state = 'LOCK WAIT' UNION "
            "SELECT id FROM information_schema.processlist "
            "WHERE state LIKE 'Waiting for table%lock'"
        )
        return self._kill([number for (number,) in waiting])

    def connections(self, without: Collection[int] = ()) -> int:
        return sum(thread not in without for thread in self._threads())

    def close(self) -> None:
        self._connection.close()

    def _kill(self, threads: list[int]) -> int:
        import pymysql

        for thread in threads:
            with suppress(pymysql.Error):  # it has ended meanwhile
                self._execute(f"KILL {thread}")
        return len(threads)

    def _threads(self) -> list[int]:
        rows = self._execute(
            f"SELECT id FROM information_schema.processlist WHERE db = '{self._name}'"
        )
        return [number for (number,) in rows]

    def _allow_connections(self, allowed: bool) -> None:
        ((account,),) = self._execute("SELECT CURRENT_USER()")
        user, _, host = account.partition("@")
        assert user != "root", "name a user of the tests' own in TEST_MYSQL_URL: it is locked out"
        self._execute(f"ALTER USER '{user}'@'{host}' ACCOUNT {'UNLOCK' if allowed else 'LOCK'}")

    def _execute(self, sql: str) -> list[Any]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())


SERVERS: dict[str, Callable[[], Server]] = {"postgresql": PostgreSQLServer, "mysql": MySQLServer}
