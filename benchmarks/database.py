"""Where is measured: a server, fresh databases on it, and how durable what they commit is."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.db import connections

NAME = "fsmworker_benchmark"

# What decides how much a commit costs.
SETTINGS = {
    "postgresql": [
        "server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers",
        "max_wal_size", "autovacuum",
    ],
    "sqlite": ["journal_mode", "synchronous"],
    "mysql": [
        "version", "innodb_flush_log_at_trx_commit", "sync_binlog", "innodb_buffer_pool_size",
    ],
}  # fmt: skip
SHOW = {
    "postgresql": "SHOW {}",
    "sqlite": "PRAGMA {}",
    "mysql": "SELECT @@{}",
}


@contextmanager
def server() -> Iterator[str]:
    """
    The URL of a server: ``DATABASE_URL`` or ``TEST_DATABASE_URL``, or a PostgreSQL that is started.

    Nothing but databases whose names begin with ``fsmworker_benchmark`` is touched on it.
    """
    if url := os.environ.get("DATABASE_URL") or os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    from tests.postgres import running_server

    with running_server() as url:
        yield url


@contextmanager
def mariadb() -> Iterator[str | None]:
    """The URL of a MariaDB: ``TEST_MYSQL_URL``, or one that is started; None if there is none."""
    if url := os.environ.get("TEST_MYSQL_URL"):
        yield url
        return
    from tests.mariadb import running_server
    from tests.servers import ServerUnavailable

    with ExitStack() as stack:
        try:
            url = stack.enter_context(running_server())
        except ServerUnavailable as error:
            print(f"no MariaDB: {error}", file=sys.stderr)
        yield url


def fresh_database(url: str, name: str = NAME) -> str:
    """Make the database `name` on the server, instead of one that may be left; returns its URL."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return url
    with _administrator(url) as execute:
        execute(f"DROP DATABASE IF EXISTS {name}{' (FORCE)' if _is_postgresql(url) else ''}")
        execute(f"CREATE DATABASE {name}")
    return urlunsplit(parts._replace(path=f"/{name}"))


def drop_databases(url: str) -> None:
    """Leave nothing behind on a server that is not ours."""
    if _is_postgresql(url):
        with _administrator(url) as execute:
            names = execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [f"{NAME}%"])
            for (name,) in names.fetchall():
                execute(f"DROP DATABASE {name} (FORCE)")
    elif urlsplit(url).scheme.startswith("mysql"):
        with _administrator(url) as execute:
            execute(f"DROP DATABASE {NAME}")


@contextmanager
def _administrator(url: str) -> Iterator[Any]:
    if _is_postgresql(url):
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            yield connection.execute
        return
    from tests.mariadb import connect

    with connect(url) as connection, connection.cursor() as cursor:
        yield cursor.execute


def _is_postgresql(url: str) -> bool:
    return urlsplit(url).scheme.startswith("postgres")


def database_facts(alias: str) -> dict[str, str]:
    """The settings that decide how durable a commit is, by name."""
    connection = connections[alias]
    facts = {"vendor": connection.vendor}
    with connection.cursor() as cursor:
        for setting in SETTINGS[connection.vendor]:
            cursor.execute(SHOW[connection.vendor].format(setting))
            facts[setting] = str(cursor.fetchone()[0])
    return facts


def tidy(alias: str, model: Any) -> None:
    """Before each run: statistics as autovacuum leaves them, no dead rows, no checkpoint due."""
    connection = connections[alias]
    table = connection.ops.quote_name(model._meta.db_table)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"VACUUM ANALYZE {table}")
            cursor.execute("CHECKPOINT")
        elif connection.vendor == "mysql":
            cursor.execute(f"ANALYZE TABLE {table}")
            cursor.fetchall()
        else:
            cursor.execute("ANALYZE")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def empty(alias: str, model: Any) -> None:
    """An empty table, as a new one is."""
    connection = connections[alias]
    table = connection.ops.quote_name(model._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(f"{'DELETE FROM' if connection.vendor == 'sqlite' else 'TRUNCATE'} {table}")
