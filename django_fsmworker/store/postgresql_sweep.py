"""A sweep's statement for PostgreSQL: rows locked and moved at once.

The condition is the ORM's. It stands in the very SELECT that locks, so that PostgreSQL looks at it
again, with the row's new values, if somebody has changed the row since the statement began.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL

from django_fsmworker.graph import State
from django_fsmworker.store.tables import Table


def sweep_statement(
    table: Table, rows: QuerySet[Any], target: State, now: str
) -> tuple[str, list[Any]] | None:
    """The statement and its parameters; None where the condition can be true of no row."""
    found = rows.order_by("pk").values_list(RawSQL(f"{table.name}.ctid", ()))
    try:
        select, params = found.query.get_compiler(table.alias).as_sql()
    except EmptyResultSet:
        return None
    before, after = _around(table, now)
    history = [target.name] if table.history else []
    return f"{before}{select}{after}", [*params, *history, target.name, target.first_due]


@cache
def _around(table: Table, now: str) -> tuple[str, str]:
    """What comes before and after the SELECT."""
    t = table
    history = f"""
            {t.history} = COALESCE({t.history}, '[]'::jsonb)
                || jsonb_build_array(jsonb_build_array(%s::text, {now})),"""
    before = "WITH free(id) AS MATERIALIZED ("
    after = f"""
            FOR NO KEY UPDATE OF {t.name} SKIP LOCKED
        )
        UPDATE {t.name} SET{history if t.history else ""}
            {t.state} = %s,
            {t.changed} = {now},
            {t.next} = {now} + %s::float8 * interval '1 second',
            {t.failures} = 0,
            {t.lease} = NULL,
            {t.claim} = NULL
        WHERE ctid = ANY (ARRAY (SELECT id FROM free))
        RETURNING {t.returned_key}
    """
    return before, after
