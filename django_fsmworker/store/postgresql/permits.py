"""Permits on PostgreSQL: each method is one autocommit statement, taking new ones is a second."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from django.db import connections

from django_fsmworker.models.limits import Permit, key_text
from django_fsmworker.store.permits import Permits, Taken, Wish
from django_fsmworker.store.postgresql.driver import array, text_array
from django_fsmworker.store.postgresql.sql import database_now

# Of each key the first that are free, past those which others are about to take.
TAKE = """
    WITH wanted AS MATERIALIZED (
        SELECT * FROM unnest((SELECT %(digests)s::text[]), (SELECT %(numbers)s::int[]))
            AS each(digest, number)
        ORDER BY digest
    ), free AS MATERIALIZED (
        SELECT permit.id FROM wanted
        CROSS JOIN LATERAL (
            SELECT id FROM {table}
            WHERE model = %(model)s AND state = %(state)s AND digest = wanted.digest
                AND slot <= %(limit)s AND lease <= {now}
            ORDER BY slot
            LIMIT wanted.number
            FOR NO KEY UPDATE SKIP LOCKED) AS permit
    )
    UPDATE {table} SET token = %(token)s, lease = {now} + %(lease)s * interval '1 second'
    WHERE id = ANY (ARRAY (SELECT id FROM free))
    RETURNING digest, id"""

# Where there are as many as the limit, none is looked for. The last row tells how many were tried:
# others may make the same ones at the same moment.
MAKE = """
    WITH wanted AS MATERIALIZED (
        SELECT * FROM unnest((SELECT %(digests)s::text[]), (SELECT %(keys)s::text[]),
                (SELECT %(numbers)s::int[])) AS each(digest, key, number)
        WHERE (SELECT count(*) FROM {table} WHERE model = %(model)s AND state = %(state)s
            AND {table}.digest = each.digest AND slot <= %(limit)s) < %(limit)s
        ORDER BY digest
    ), missing AS MATERIALIZED (
        SELECT wanted.digest, wanted.key, lacking.slot FROM wanted
        CROSS JOIN LATERAL (
            SELECT slot FROM generate_series(1, %(limit)s) AS slot
            WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE model = %(model)s AND state = %(state)s
                AND {table}.digest = wanted.digest AND {table}.slot = slot.slot)
            ORDER BY slot
            LIMIT wanted.number) AS lacking
    ), made AS (
        INSERT INTO {table} (model, state, key, digest, slot, token, lease)
        SELECT %(model)s, %(state)s, key, digest, slot, %(token)s,
            {now} + %(lease)s * interval '1 second'
        FROM missing
        ON CONFLICT DO NOTHING
        RETURNING digest, id
    )
    SELECT digest, id FROM made UNION ALL SELECT NULL, count(*) FROM missing"""

CHANGE = """
    WITH held AS MATERIALIZED (
        SELECT id FROM {table} WHERE id = ANY (%(permits)s::bigint[]) AND token = %(token)s
        ORDER BY id
        FOR NO KEY UPDATE{skip}
    )
    UPDATE {table} SET {changes} WHERE id = ANY (ARRAY (SELECT id FROM held))
    RETURNING id"""


class PostgreSQLPermits(Permits):
    """A thousand permits at once take a few milliseconds."""

    def renew(self, token: int, permits: Collection[int], lease: float) -> set[int]:
        changes = f"lease = {database_now()} + %(lease)s * interval '1 second'"
        return self._change(token, permits, changes, " SKIP LOCKED", lease=lease)

    def give_back(self, token: int, permits: Collection[int]) -> None:
        self._change(token, permits, f"lease = {database_now()}, token = NULL")

    def _take(self, wish: Wish, taken: Taken) -> None:
        lacking = dict(wish.numbers)
        for digest, pk in self._fetch(TAKE, _asked(wish, lacking)):
            taken.permits[wish.keys[digest]].append(pk)
            lacking[digest] -= 1
        lacking = {digest: number for digest, number in lacking.items() if number > 0}
        if lacking:
            *made, (_, tried) = self._fetch(MAKE, _asked(wish, lacking))
            for digest, pk in made:
                taken.permits[wish.keys[digest]].append(pk)
            taken.contended = len(made) < tried

    def _change(
        self, token: int, permits: Collection[int], changes: str, skip: str = "", **params: Any
    ) -> set[int]:
        params |= {"permits": array(permits), "token": token}
        return {pk for (pk,) in self._fetch(CHANGE, params, changes=changes, skip=skip)}

    def _fetch(self, statement: str, params: dict[str, Any], **terms: str) -> list[Any]:
        connection = connections[self.alias]
        table = connection.ops.quote_name(Permit._meta.db_table)
        with connection.cursor() as cursor:
            cursor.execute(statement.format(table=table, now=database_now(), **terms), params)
            rows: list[Any] = cursor.fetchall()
            return rows


def _asked(wish: Wish, numbers: Mapping[str, int]) -> dict[str, Any]:
    """The parameters of a statement about ``numbers`` of permits of these keys."""
    return {
        "model": wish.label,
        "state": wish.state,
        "limit": wish.limit,
        "token": wish.token,
        "lease": wish.lease,
        "digests": text_array(list(numbers)),
        "keys": text_array([key_text(wish.keys[digest]) for digest in numbers]),
        "numbers": array(numbers.values()),
    }
