"""The longer statements for PostgreSQL.

Two things recur. Arrays go in through a scalar subquery, ``unnest((SELECT %s::bigint[]))``, so that
the planner expects a handful of rows whatever the batch holds and keeps to index and row id: an
``UPDATE … FROM unnest`` that flipped to a sequential scan was measured at a fifth of the speed. And
rows are locked first, in the order of their keys, with SKIP LOCKED, then updated by row id.
"""

from __future__ import annotations

from functools import cache

from django_fsmworker import clock
from django_fsmworker.models.fields import MOST_FAILURES
from django_fsmworker.store.tables import Table

OUTCOME = {
    "source": "text",
    "token": "bigint",
    "target": "text",
    "moved": "boolean",
    "delay": "float8",
    "timeout": "float8",
    "failures": "int",
}


def database_now() -> str:
    """The statement's start, not the transaction's: a test's transaction would stand still."""
    travelled = clock.travelled().total_seconds()
    if not travelled:
        return "statement_timestamp()"
    return f"(statement_timestamp() + {travelled!r} * interval '1 second')"


def holds_sql(table: Table) -> str:
    """Held rows, from one array for each column of the key, and those of tokens and states."""
    return _unnested(table, "hold", {"token": "bigint", "state": "text"})


def order_of(table: Table) -> str:
    """The order in which rows are locked: by key."""
    return ", ".join(table.key_parts)


def key_of(table: Table, row: str) -> str:
    """The condition that a row of the table is the one that ``row`` has the key of."""
    return table.key_is(f"{row}.{part}" for part in table.key_parts)


def _unnested(table: Table, name: str, others: dict[str, str]) -> str:
    types = [*table.key_types, *others.values()]
    arrays = ", ".join(f"(SELECT %s::{each}[])" for each in types)
    return f"unnest({arrays}) AS {name}({', '.join([*table.key_parts, *others])})"


@cache
def claim_sql(table: Table, now: str, hurried: bool) -> str:
    """Each lane walks its own stretch of the index and stops at its limit.

    ``hurried``: the claim's commit does not wait for the disk, nor for a standby. It is the one
    write that need not outlive the server: a row whose claim is lost is due again, and the token
    that nobody has written down fences off whoever still works on it. The setting ends with the
    statement's own transaction (PostgreSQL's manual, "Asynchronous Commit", "set_config").
    """
    t = table
    first = "SELECT set_config('synchronous_commit', 'off', true)" if hurried else "SELECT 1"
    return f"""
        WITH first AS MATERIALIZED ({first}), due AS MATERIALIZED (
            SELECT row.id
            FROM first CROSS JOIN unnest((SELECT %s::text[]), (SELECT %s::text[]::timestamptz[]),
                        (SELECT %s::int[])) AS lane(state, since, amount)
            CROSS JOIN LATERAL (
                SELECT ctid AS id FROM {t.name}
                WHERE {t.state} = lane.state
                    AND {t.next} >= lane.since
                    AND {t.next} <= LEAST({now}, %s::timestamptz)
                    AND ({t.lease} IS NULL OR {t.lease} <= {now})
                ORDER BY {t.next}
                LIMIT lane.amount
                FOR NO KEY UPDATE SKIP LOCKED) AS row
        )
        UPDATE {t.name} SET
            {t.claim} = CASE WHEN {t.lease} IS NULL THEN %s ELSE %s END,
            {t.failures} = CASE WHEN {t.lease} IS NULL THEN {t.failures}
                ELSE LEAST({t.failures}::int + 1, {MOST_FAILURES}) END,
            {t.lease} = {now} + %s * interval '1 second'
        WHERE ctid = ANY (ARRAY (SELECT id FROM due))
        RETURNING {t.whole_row}
    """


@cache
def peek_sql(table: Table, position: int, now: str) -> str:
    """The first free row of each lane; ``position`` tells which model's they are."""
    t = table
    return f"""
        SELECT {position}, lane.state, extract(epoch FROM first.due - {now})::float8
        FROM unnest((SELECT %s::text[]), (SELECT %s::text[]::timestamptz[]))
            AS lane(state, since)
        CROSS JOIN LATERAL (
            SELECT {t.next} AS due FROM {t.name}
            WHERE {t.state} = lane.state
                AND {t.next} >= lane.since
                AND ({t.lease} IS NULL OR {t.lease} <= {now})
            ORDER BY {t.next}
            LIMIT 1) AS first
    """


@cache
def settle_sql(table: Table, now: str, lease: str, claim: str, returned: str) -> str:
    """Lock each row by its key if the fence holds, then update it by its row id."""
    t = table
    history = f"""
            {t.history} = CASE WHEN held.moved
                THEN COALESCE({t.history}, '[]'::jsonb)
                    || jsonb_build_array(jsonb_build_array(held.target, {now}))
                ELSE {t.history} END,"""
    after = "* interval '1 second'"
    return f"""
        WITH held AS MATERIALIZED (
            SELECT row.id, outcome.*
            FROM (
                SELECT * FROM {_unnested(t, "outcome", OUTCOME)}
                ORDER BY {order_of(t)}) AS outcome
            CROSS JOIN LATERAL (
                SELECT ctid AS id FROM {t.name}
                WHERE {key_of(t, "outcome")}
                    AND {t.state} = outcome.source
                    AND {t.claim} IS NOT DISTINCT FROM outcome.token
                FOR NO KEY UPDATE SKIP LOCKED) AS row
        )
        UPDATE {t.name} SET{history if t.history else ""}
            {t.state} = held.target,
            {t.changed} = CASE WHEN held.moved THEN {now} ELSE {t.changed} END,
            {t.next} = LEAST(
                {now} + held.delay {after},
                CASE WHEN held.moved THEN {now} ELSE {t.changed} END + held.timeout {after}),
            {t.failures} = held.failures,
            {t.lease} = {lease},
            {t.claim} = {claim}
        FROM held
        WHERE {t.name}.ctid = held.id
        RETURNING {returned}
    """
