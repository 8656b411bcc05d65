"""``python -m benchmarks.floor.guard TABLE``: move rows by a query, 5,000 at a time."""

from __future__ import annotations

import sys

import django
from django.db import connection

MOVE = """
    WITH locked AS MATERIALIZED (
        SELECT ctid AS place FROM {table}
        WHERE state = 'new' AND ready AND id > %s ORDER BY id LIMIT 5000
        FOR NO KEY UPDATE SKIP LOCKED)
    UPDATE {table} SET state = 'done', state_changed = statement_timestamp(), state_next = NULL
    WHERE ctid = ANY (ARRAY (SELECT place FROM locked)) RETURNING id"""


def main(table: str) -> None:
    """Lock, update, commit; until a walk over the keys has come to their end."""
    django.setup()
    last = 0
    with connection.cursor() as cursor:
        while True:
            cursor.execute(MOVE.format(table=table), [last])
            keys = [key for (key,) in cursor.fetchall()]
            if not keys:
                return
            last = max(keys)


if __name__ == "__main__":
    main(*sys.argv[1:])
