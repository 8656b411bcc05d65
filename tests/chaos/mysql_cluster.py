"""A cluster on MariaDB."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import pymysql

from tests.chaos.cluster import FLEET, MOST_CONNECTIONS, Cluster
from tests.chaos.proxy import Proxy
from tests.chaos.wire_protocol import MySQLWire
from tests.mariadb import connect, own_server

DATABASE = "cluster"
# PyMySQL reads all certificates of the system for a connection that may be encrypted.
PLAIN = {"ssl_disabled": True}
THREADS = f"SELECT id FROM information_schema.processlist WHERE user = '{FLEET}'"
SETTINGS = {
    "max-connections": MOST_CONNECTIONS,
    # What is committed is in the system's hands: a killed server has it, the machine stays up.
    "innodb-flush-log-at-trx-commit": 2,
    "innodb-flush-method": "nosync",
}


class MySQLCluster(Cluster):
    """The fleet has an account of its own, which may not go past what others may not."""

    _password = secrets.token_hex(16)

    @property
    def url(self) -> str:
        return f"mysql://{FLEET}:{self._password}@127.0.0.1:{self.server.port}/{DATABASE}"

    def prepare(self) -> None:
        self.execute(f"CREATE DATABASE {DATABASE}")
        account = f"{FLEET}@'127.0.0.1'"
        self.execute(f"CREATE USER {account} IDENTIFIED BY '{self._password}'")
        self.execute(f"GRANT ALL ON {DATABASE}.* TO {account}")

    def execute(self, sql: str) -> list[Any]:
        with self._direct() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def connections(self) -> int:
        return len(self.execute(THREADS))

    def end_all_connections(self) -> int:
        with self._direct() as cursor:
            cursor.execute(THREADS)
            threads = [thread for (thread,) in cursor.fetchall()]
            for thread in threads:
                with suppress(pymysql.OperationalError):  # it has ended meanwhile
                    cursor.execute(f"KILL {thread}")
        return len(threads)

    def take_all_connections(self, opened: list[Any]) -> int:
        with suppress(pymysql.OperationalError):  # too many connections
            while True:
                opened.append(connect(self.url, **PLAIN))
        return len(opened)

    @contextmanager
    def _direct(self) -> Iterator[Any]:
        with closing(connect(self.server.url, **PLAIN)) as direct, direct.cursor() as cursor:
            yield cursor

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        self.execute(
            f"CREATE TRIGGER {DATABASE}.full_disk BEFORE UPDATE ON {DATABASE}.tests_chain "
            "FOR EACH ROW SIGNAL SQLSTATE 'HY000' "
            "SET MYSQL_ERRNO = 1021, MESSAGE_TEXT = 'Disk full; waiting for someone to free space'"
        )
        try:
            yield
        finally:
            self.execute(f"DROP TRIGGER {DATABASE}.full_disk")

    @contextmanager
    def read_only(self) -> Iterator[None]:
        self.execute("SET GLOBAL read_only = 1")
        try:
            yield
        finally:
            self.execute("SET GLOBAL read_only = 0")


@contextmanager
def started_cluster() -> Iterator[MySQLCluster]:
    """Its runners are not started yet."""
    with own_server(**SETTINGS) as server:
        with Proxy(("127.0.0.1", server.port), MySQLWire) as proxy:
            cluster = MySQLCluster(server, proxy)
            cluster.prepare()
            yield cluster
