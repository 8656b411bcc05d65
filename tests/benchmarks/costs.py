"""What a run cost the database, by its own counters."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

Counters = Mapping[str, float]

OF_THE_DATABASE = """
    SELECT xact_commit + xact_rollback, pg_current_wal_insert_lsn() - '0/0'
    FROM pg_stat_database WHERE datname = current_database()"""

OF_A_TABLE = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = %s"


def counters(url: str, table: str | None = None) -> Counters:
    """As they stand now; only PostgreSQL has them. A session reports its own when it ends."""
    if not urlsplit(url).scheme.startswith("postgres"):
        return {}
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        of_all = connection.execute(OF_THE_DATABASE).fetchone() or (0, 0)
        found = dict(zip(("transactions", "wal_bytes"), map(float, of_all), strict=True))
        if table and (of_one := connection.execute(OF_A_TABLE, [table]).fetchone()):
            found |= zip(("updates", "hot_updates"), map(float, of_one), strict=True)
        return found


def each(after: Counters, before: Counters, number: int) -> dict[str, float]:
    """The difference, for one of `number` pieces of work."""
    return {name: (after[name] - before[name]) / max(1, number) for name in after}
