"""A cluster on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from tests.chaos.cluster import FLEET, MOST_CONNECTIONS, Cluster
from tests.chaos.proxy import Proxy
from tests.chaos.wire_protocol import PostgreSQLWire
from tests.postgres import own_server

OF_THE_FLEET = (
    f"FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name = '{FLEET}'"
)


class PostgreSQLCluster(Cluster):
    """The fleet's connections are known by the name of their application."""

    environment = {"PGAPPNAME": FLEET}

    @property
    def url(self) -> str:
        return str(self.server.url)

    def execute(self, sql: str) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as direct:
            found = direct.execute(sql)
            return found.fetchall() if found.description else []

    def connections(self) -> int:
        return len(self.execute(f"SELECT pid {OF_THE_FLEET}"))

    def end_all_connections(self) -> int:
        return len(self.execute(f"SELECT pg_terminate_backend(pid) {OF_THE_FLEET}"))

    def take_all_connections(self, opened: list[Any]) -> int:
        with suppress(psycopg.OperationalError):  # sorry, too many clients already
            while True:
                opened.append(psycopg.connect(self.url, autocommit=True))
        return len(opened)

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        self.execute(
            """
            CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'could not extend file: No space left on device'
                USING ERRCODE = '53100'; END $$;
            CREATE TRIGGER full_disk BEFORE UPDATE ON tests_chain EXECUTE FUNCTION full_disk();
            """
        )
        try:
            yield
        finally:
            self.execute("DROP FUNCTION full_disk CASCADE")

    @contextmanager
    def read_only(self) -> Iterator[None]:
        self._all_read_only(True)
        try:
            yield
        finally:
            self._all_read_only(False)

    def _all_read_only(self, only: bool) -> None:
        self.execute(f"ALTER SYSTEM SET default_transaction_read_only = {only}")
        self.execute("SELECT pg_reload_conf()")


@contextmanager
def started_cluster() -> Iterator[PostgreSQLCluster]:
    """Its runners are not started yet."""
    with own_server(max_connections=MOST_CONNECTIONS, fsync="off") as server:
        with Proxy(("127.0.0.1", server.port), PostgreSQLWire) as proxy:
            yield PostgreSQLCluster(server, proxy)
