"""The floor on MariaDB and MySQL: lock and select, then update those keys, in one transaction."""

from __future__ import annotations

from typing import Any

from django.db import transaction

BATCH = 1000

CLAIM = """
    SELECT id FROM {table}
    WHERE state = 'new' AND state_next <= UTC_TIMESTAMP(6)
        AND (state_lease IS NULL OR state_lease <= UTC_TIMESTAMP(6))
    ORDER BY state_next LIMIT {batch} FOR UPDATE SKIP LOCKED"""

MARK = """
    UPDATE {table} SET
        state_lease = UTC_TIMESTAMP(6) + INTERVAL 30 SECOND, state_claim = %s
    WHERE id IN %s"""

SETTLE = """
    UPDATE {table} SET state = 'done', state_changed = UTC_TIMESTAMP(6),
        state_next = NULL, state_lease = NULL, state_claim = NULL
    WHERE id IN %s AND state = 'new' AND state_claim = %s"""


class Floor:
    def __init__(self, table: str, tuned: bool) -> None:
        self._claim = CLAIM.format(table=table, batch=BATCH)
        self._mark, self._settle = MARK.format(table=table), SETTLE.format(table=table)

    def claim(self, cursor: Any, token: int) -> list[int]:
        with transaction.atomic():
            cursor.execute(self._claim)
            keys = [key for (key,) in cursor.fetchall()]
            if keys:
                cursor.execute(self._mark, [token, keys])
        return keys

    def settle(self, cursor: Any, keys: list[int], token: int) -> None:
        cursor.execute(self._settle, [keys, token])
