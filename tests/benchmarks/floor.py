"""The floor: the same rows claimed and settled by two batched statements, no Python objects."""

from __future__ import annotations

import random
import time

from django.db import connection

TABLE = "testapp_noop"
BATCH = 1000

CLAIM = f"""
    WITH due AS MATERIALIZED (
        SELECT ctid AS id FROM {TABLE}
        WHERE state = 'new' AND state_next <= statement_timestamp()
            AND (state_lease IS NULL OR state_lease <= statement_timestamp())
        ORDER BY state_next LIMIT {BATCH} FOR NO KEY UPDATE SKIP LOCKED)
    UPDATE {TABLE} SET state_lease = statement_timestamp() + interval '30 seconds', state_claim = %s
    FROM due WHERE {TABLE}.ctid = due.id RETURNING {TABLE}.id"""

SETTLE = f"""
    UPDATE {TABLE} SET state = 'done', state_changed = statement_timestamp(), state_next = NULL,
        state_lease = NULL, state_claim = NULL
    FROM unnest(%s::bigint[]) AS outcome(pk)
    WHERE {TABLE}.id = outcome.pk AND state = 'new' AND state_claim = %s"""

SQLITE_CLAIM = f"""
    UPDATE {TABLE} SET state_lease = datetime('now', '+30 seconds'), state_claim = %s
    WHERE id IN (
        SELECT id FROM {TABLE}
        WHERE state = 'new' AND state_next <= strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')
            AND state_lease IS NULL
        ORDER BY state_next LIMIT {BATCH})
    RETURNING id"""

SQLITE_SETTLE = f"""
    UPDATE {TABLE} SET state = 'done', state_changed = strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now'),
        state_next = NULL, state_lease = NULL, state_claim = NULL
    FROM json_each(%s) AS outcome
    WHERE {TABLE}.id = outcome.value AND state = 'new' AND state_claim = %s"""


def drain() -> float:
    """Move every due row from new to done; returns the seconds it took."""
    claim, settle = (CLAIM, SETTLE) if connection.vendor == "postgresql" else _sqlite()
    start = time.perf_counter()
    with connection.cursor() as cursor:
        while True:
            token = random.getrandbits(62)
            cursor.execute(claim, [token])
            keys = [key for (key,) in cursor.fetchall()]
            if not keys:
                return time.perf_counter() - start
            cursor.execute(
                settle, [keys if connection.vendor == "postgresql" else str(keys), token]
            )


def _sqlite() -> tuple[str, str]:
    return SQLITE_CLAIM, SQLITE_SETTLE
