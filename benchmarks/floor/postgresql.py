"""The floor on PostgreSQL: a claim that returns the keys, an update that is fenced by the token."""

from __future__ import annotations

from typing import Any

BATCH = 1000

CLAIM = """
    WITH due AS MATERIALIZED (
        SELECT ctid AS id FROM {table}
        WHERE state = 'new' AND state_next <= statement_timestamp()
            AND (state_lease IS NULL OR state_lease <= statement_timestamp())
        ORDER BY state_next LIMIT {batch} FOR NO KEY UPDATE SKIP LOCKED)
    UPDATE {table} SET
        state_lease = statement_timestamp() + interval '30 seconds', state_claim = %s
    FROM due WHERE {table}.ctid = due.id RETURNING {table}.id"""

SETTLE = """
    UPDATE {table} SET state = 'done', state_changed = statement_timestamp(),
        state_next = NULL, state_lease = NULL, state_claim = NULL
    FROM unnest({keys}) AS outcome(pk)
    WHERE {table}.id = outcome.pk AND state = 'new' AND state_claim = %s"""

# An array that the planner can count makes it read the whole table for each batch of 1,000; one
# from a subquery is taken for a handful of keys, which are reached by the index.
PLAIN, TUNED = "%s::bigint[]", "(SELECT %s::bigint[])"


class Floor:
    def __init__(self, table: str, tuned: bool) -> None:
        self._claim = CLAIM.format(table=table, batch=BATCH)
        self._settle = SETTLE.format(table=table, keys=TUNED if tuned else PLAIN)

    def claim(self, cursor: Any, token: int) -> list[int]:
        cursor.execute(self._claim, [token])
        return [key for (key,) in cursor.fetchall()]

    def settle(self, cursor: Any, keys: list[int], token: int) -> None:
        cursor.execute(self._settle, [keys, token])
