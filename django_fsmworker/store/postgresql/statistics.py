"""What PostgreSQL knows about a table from its own statistics, and what these say is wrong.

(Its manual: "The Cumulative Statistics System", "Heap-Only Tuples", "pg_stats".)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet

from django_fsmworker.models.keys import declaring_model
from django_fsmworker.store.statistics import Finding, Statistics
from django_fsmworker.store.tables import Table, table_for

# Below so many updates a share says nothing.
ENOUGH_UPDATES = 10_000
# A claim is a HOT update, a settling that changes the due time is none: half of them at best.
LITTLE_HOT = 0.3
# Of a table with so many rows the default of autovacuum waits for a fifth to be dead.
LARGE_TABLE = 100_000
# Pages that are read to find the first row of a lane, where all is well: some few.
MANY_PAGES = 500
# What the planner takes a walk over half a million narrow rows for.
MOST_COST = 10_000
# The same for a million.
LONG_WALK = 20_000
# Seconds for which a transaction may keep others' dead rows from being removed.
LONG_TRANSACTION = 300

ROWS = """
    SELECT c.reltuples::float8, s.most_common_vals::text::text[], s.most_common_freqs
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_stats s
        ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = %s
    WHERE c.oid = to_regclass(%s)"""
TABLE = """
    SELECT t.n_tup_upd, t.n_tup_hot_upd, t.n_dead_tup, c.reltuples::float8,
        COALESCE(array_to_string(c.reloptions, ','), '')
    FROM pg_stat_all_tables t JOIN pg_class c ON c.oid = t.relid
    WHERE t.relid = to_regclass(%s)"""
INDEXES = """
    SELECT i.indexrelname, i.idx_scan, x.indisvalid
    FROM pg_stat_all_indexes i JOIN pg_index x ON x.indexrelid = i.indexrelid
    WHERE i.relid = to_regclass(%s)"""
PINNING = """
    SELECT pid, COALESCE(usename, ''), COALESCE(application_name, ''), state,
        extract(epoch FROM statement_timestamp() - xact_start)::float8
    FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND xact_start IS NOT NULL AND backend_type = 'client backend'
        AND statement_timestamp() - xact_start > %s * interval '1 second'
    ORDER BY xact_start LIMIT 3"""
PREPARED = """
    SELECT gid, extract(epoch FROM statement_timestamp() - prepared)::float8 FROM pg_prepared_xacts
    WHERE statement_timestamp() - prepared > %s * interval '1 second'
    ORDER BY prepared LIMIT 3"""


class PostgreSQLStatistics(Statistics):
    """From the catalogs, which every role may read."""

    tells_costs = True

    def rows_by_state(self, model: Any) -> tuple[dict[str, int], bool]:
        table = table_for(model, self.alias)
        column = declaring_model(model)._meta.get_field("state").column
        ((number, states, shares),) = self.fetch(ROWS, [column, table.name])
        if states is None or number < 0:  # never analysed
            return super().rows_by_state(model)
        return {
            state: round(share * number) for state, share in zip(states, shares, strict=True)
        }, True

    def number_of(self, rows: QuerySet[Any]) -> int:
        number: float = self._plan(rows.order_by()).get("Plan Rows", 0)
        return round(number)

    def first_of(self, rows: str) -> str:
        # With a LIMIT in sight the planner, which takes conditions for independent, hopes to find
        # enough rows soon in the table, and walks over all of it instead of a small index.
        return f"WITH whole AS MATERIALIZED ({rows}) SELECT * FROM whole LIMIT %s"

    def count_up_to(self, rows: QuerySet[Any], most: int) -> tuple[int, bool]:
        # Where no index helps, even to count some takes a walk over a large part of the table.
        if rows.query.where and self._cost(rows.order_by()[: most + 1]) > MOST_COST:
            number = self.number_of(rows)
            if number > most:
                return number, True
        return self.counted_or_estimated(rows, most)

    def is_long_walk(self, rows: QuerySet[Any]) -> bool:
        return self._cost(rows) > LONG_WALK

    def _cost(self, rows: QuerySet[Any]) -> float:
        cost: float = self._plan(rows).get("Total Cost", 0)
        return cost

    def _plan(self, rows: QuerySet[Any]) -> dict[str, Any]:
        """The plan of the query; empty where no query is needed to know that there are no rows."""
        text = rows.explain(format="json")
        plan: dict[str, Any] = json.loads(text)[0]["Plan"] if text else {}
        return plan

    def examine_database(self) -> Iterator[Finding]:
        yield from self._pinning_sessions()
        yield from self._pooler()

    def examine_table(self, model: Any) -> Iterator[Finding]:
        table, label = table_for(model, self.alias), model._meta.label
        found = self.fetch(TABLE, [table.name])
        if found:
            yield from _updates(label, table, *found[0])
        yield from self._indexes(model, table)
        yield from self._dead_prefix(model)

    def _pinning_sessions(self) -> Iterator[Finding]:
        for pid, user, name, state, seconds in self.fetch(PINNING, [LONG_TRANSACTION]):
            yield Finding(
                "long_transaction",
                f"Session {pid} of {user} ({name or 'without a name'}, {state}) on {self.alias!r} "
                f"has had a transaction open for {seconds:.0f} s, and no dead row that came since "
                f"can be removed: claims read more and more of them.",
                f"End it with SELECT pg_terminate_backend({pid}), and set "
                f"idle_in_transaction_session_timeout.",
                evidence={"pid": pid, "seconds": seconds, "state": state},
            )
        for gid, seconds in self.fetch(PREPARED, [LONG_TRANSACTION]):
            yield Finding(
                "long_transaction",
                f"The prepared transaction {gid!r} on {self.alias!r} is {seconds:.0f} s old, and "
                f"no dead row that came since can be removed.",
                f"End it with ROLLBACK PREPARED '{gid}', or COMMIT PREPARED.",
                evidence={"gid": gid, "seconds": seconds},
            )

    def _pooler(self) -> Iterator[Finding]:
        """A pooler gives its clients a number to cancel by that is no process of the server's."""
        info = getattr(self.connection.connection, "info", None)
        ((pid,),) = self.fetch("SELECT pg_backend_pid()")
        told = getattr(info, "backend_pid", pid)
        off = self.connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
        if told != pid and not off:
            yield Finding(
                "pooler",
                f"The database {self.alias!r} is behind a pooler, and server-side cursors are on: "
                f"in its transaction mode they end with the transaction.",
                f"Set DATABASES[{self.alias!r}]['DISABLE_SERVER_SIDE_CURSORS'] = True; in "
                f"transaction mode set FSMWORKER['HINTS'] = False, too.",
                evidence={"server": pid, "told": told},
            )

    def _indexes(self, model: Any, table: Table) -> Iterator[Finding]:
        label, wanted = model._meta.label, {index.name for index in model._meta.indexes}
        found = {name: (scans, valid) for name, scans, valid in self.fetch(INDEXES, [table.name])}
        yield from self.absent_indexes(model, found)
        for name, (_, valid) in sorted(found.items()):
            if name in wanted and not valid:
                yield Finding(
                    "invalid_index",
                    f"The index {name} of {label} is not valid: its creation was interrupted.",
                    f'Run REINDEX INDEX CONCURRENTLY "{name}".',
                    evidence={"index": name},
                )

    def _dead_prefix(self, model: Any) -> Iterator[Finding]:
        """How many pages are read to find the first row of a lane from its start."""
        for state in model.state_graph.states:
            rows: QuerySet[Any] = QuerySet(model, using=self.alias)
            first = rows.filter(state=state, state_next__isnull=False).order_by("state_next")
            pages = self._pages_read(first.values("state_next")[:1])
            if pages > MANY_PAGES:
                yield Finding(
                    "dead_prefix",
                    f"To find the first due row of {model._meta.label} in the state {state}, "
                    f"{self.alias!r} reads {pages} pages: its index begins with dead entries.",
                    "Let VACUUM run on the table more often, and end transactions that keep it "
                    "from removing them.",
                    evidence={"state": state, "pages": pages},
                )

    def _pages_read(self, rows: QuerySet[Any]) -> int:
        sql, params = rows.query.get_compiler(self.alias).as_sql()
        ((plan,),) = self.fetch(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", list(params))
        (found,) = json.loads(plan) if isinstance(plan, str) else plan
        root = found["Plan"]
        return int(root["Shared Hit Blocks"] + root["Shared Read Blocks"])


def _updates(
    label: str, table: Table, updates: int, hot: int, dead: int, rows: float, options: str
) -> Iterator[Finding]:
    evidence = {"updates": updates, "hot": hot, "dead": dead, "rows": round(rows)}
    if updates >= ENOUGH_UPDATES and hot < LITTLE_HOT * updates:
        fill = "fillfactor" in options
        yield Finding(
            "few_hot_updates",
            f"Of {updates} updates of {label} only {hot / updates:.0%} were HOT; the others have "
            f"written into every index of the table.",
            "See whether an index has state_lease, state_claim or state_failures."
            if fill
            else f"Run ALTER TABLE {table.name} SET (fillfactor = 70), and VACUUM FULL once.",
            evidence=evidence,
        )
    if "autovacuum_enabled=false" in options or "autovacuum_enabled=off" in options:
        yield Finding(
            "no_autovacuum",
            f"Autovacuum is off for the table of {label}: each claim leaves a dead row.",
            f"Run ALTER TABLE {table.name} RESET (autovacuum_enabled).",
            evidence=evidence,
        )
    elif rows >= LARGE_TABLE and "autovacuum_vacuum_scale_factor" not in options:
        yield Finding(
            "late_autovacuum",
            f"The table of {label} has about {rows:.0f} rows, of which a fifth may be dead before "
            f"autovacuum comes.",
            f"Run ALTER TABLE {table.name} SET (autovacuum_vacuum_scale_factor = 0.01, "
            f"autovacuum_vacuum_threshold = 10000).",
            "advice",
            evidence,
        )
