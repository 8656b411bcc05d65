"""What a run cost the database, by its own counters."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

Counters = Mapping[str, float]

OF_THE_DATABASE = """
    SELECT xact_commit + xact_rollback, pg_current_wal_insert_lsn() - '0/0'
    FROM pg_stat_database WHERE datname = current_database()"""

# Under this name our own sessions are known to the database.
OBSERVER = "benchmark observer"
LONGEST_WAIT = 20.0

WORKERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend'
        AND application_name <> %s"""

OF_A_TABLE = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = %s"


# What a session of ours has not reported yet would be counted to the next run. Before version 15,
# a session reports by itself soon enough.
REPORT, REPORTS_SINCE = "SELECT pg_stat_force_next_flush()", 150_000


def counters(url: str, table: str | None = None) -> Counters:
    """
    As they stand when no worker is connected any more; only PostgreSQL has them.

    A session reports what it did when it ends, which may be a moment after its client.
    """
    if not urlsplit(url).scheme.startswith("postgres"):
        return {}
    import psycopg

    with psycopg.connect(url, autocommit=True, application_name=OBSERVER) as connection:
        _wait_for_sessions_to_end(connection)
        of_all = connection.execute(OF_THE_DATABASE).fetchone() or (0, 0)
        found = dict(zip(("transactions", "wal_bytes"), map(float, of_all), strict=True))
        if table and (of_one := connection.execute(OF_A_TABLE, [table]).fetchone()):
            found |= zip(("updates", "hot_updates"), map(float, of_one), strict=True)
        return found


def transactions_so_far(url: str) -> float:
    """
    As reported by sessions that go on; one that has nothing to do reports after ten seconds.

    (PostgreSQL's source, `PGSTAT_IDLE_INTERVAL`.) Our own question is counted in the next answer.
    """
    import psycopg

    with psycopg.connect(url, autocommit=True, application_name=OBSERVER) as connection:
        transactions, _ = connection.execute(OF_THE_DATABASE).fetchone() or (0, 0)
        return float(transactions)


def _wait_for_sessions_to_end(connection: Any) -> None:
    """In a single transaction, however long it takes: ours are counted, too."""
    end = time.monotonic() + LONGEST_WAIT
    with connection.transaction():
        while connection.execute(WORKERS, [OBSERVER]).fetchone() != (0,):
            if time.monotonic() > end:
                raise RuntimeError("a worker's session has not ended; what it cost is not known")
            time.sleep(0.01)
            connection.execute("SELECT pg_stat_clear_snapshot()")


def each(after: Counters, before: Counters, number: int) -> dict[str, float]:
    """The difference, for one of `number` pieces of work."""
    return {name: (after[name] - before[name]) / max(1, number) for name in after}
