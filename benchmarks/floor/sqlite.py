"""The floor on SQLite: ``UPDATE … RETURNING``, and an update of the keys in a JSON array."""

from __future__ import annotations

import json
from typing import Any

BATCH = 1000
NOW = "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')"

CLAIM = """
    UPDATE {table} SET state_lease = datetime('now', '+30 seconds'), state_claim = %s
    WHERE id IN (
        SELECT id FROM {table}
        WHERE state = 'new' AND state_next <= {now} AND state_lease IS NULL
        ORDER BY state_next LIMIT {batch})
    RETURNING id"""

SETTLE = """
    UPDATE {table} SET state = 'done', state_changed = {now},
        state_next = NULL, state_lease = NULL, state_claim = NULL
    FROM json_each(%s) AS outcome
    WHERE {table}.id = outcome.value AND state = 'new' AND state_claim = %s"""


class Floor:
    def __init__(self, table: str, tuned: bool) -> None:
        self._claim = CLAIM.format(table=table, batch=BATCH, now=NOW)
        self._settle = SETTLE.format(table=table, now=NOW)

    def claim(self, cursor: Any, token: int) -> list[int]:
        cursor.execute(self._claim, [token])
        return [key for (key,) in cursor.fetchall()]

    def settle(self, cursor: Any, keys: list[int], token: int) -> None:
        cursor.execute(self._settle, [json.dumps(keys), token])
