"""The longer statements for PostgreSQL.

Two things recur. Arrays go in through a scalar subquery, ``unnest((SELECT %s::bigint[]))``, so that
the planner expects a handful of rows whatever the batch holds and keeps to index and row id: an
``UPDATE … FROM unnest`` that flipped to a sequential scan was measured at a fifth of the speed. And
rows are locked first, in the order of their keys, with SKIP LOCKED, then updated by row id.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL

from django_fsmworker import clock
from django_fsmworker.graph import State
from django_fsmworker.models.engine import Dialect, LoggedRow, Term
from django_fsmworker.models.entering import columns_entering
from django_fsmworker.models.fields import MOST_FAILURES
from django_fsmworker.models.locking import name_in, simply_named
from django_fsmworker.models.records import TransitionRecord
from django_fsmworker.models.touching import touched_sql
from django_fsmworker.store.fence import KeyColumn, fresh, lane_terms
from django_fsmworker.store.tables import Table
from django_fsmworker.store.transition_log import FIELDS
from django_fsmworker.traces import current_trace

FENCE = {"token": "bigint", "state": "text"}
OUTCOME = {
    **FENCE,
    "target": "text",
    "moved": "boolean",
    "delay": "float8",
    "timeout": "float8",
    "failures": "int",
}

# Where a row keeps the trace that moved it.
TRACE = {"trace": "text"}


def database_now() -> str:
    """The statement's start, not the transaction's: a test's transaction would stand still."""
    travelled = clock.travelled().total_seconds()
    if not travelled:
        return "statement_timestamp()"
    return f"(statement_timestamp() + {travelled!r} * interval '1 second')"


def appended(history: str, state: str, now: str) -> str:
    """A history with one more entry."""
    entry = f"jsonb_build_array(jsonb_build_array({state}::text, {now}))"
    return f"COALESCE({history}, '[]'::jsonb) || {entry}"


class PostgreSQLDialect(Dialect):
    """What the ORM has to be told about PostgreSQL."""

    def now(self, connection: Any) -> Term:
        return database_now(), []

    def later(self, connection: Any, seconds: float) -> Term:
        return f"{database_now()} + %s * interval '1 second'", [seconds]

    def logged(self, connection: Any, rows: Sequence[LoggedRow]) -> Term:
        types = ("text", "bigint", "text", "timestamptz")
        arrays = ", ".join(f"(SELECT %s::{each}[])" for each in types)
        names = "row_text, digest, source, entered"
        return (
            f"(SELECT row_text, digest, source, {database_now()} - entered AS duration "
            f"FROM unnest({arrays}) AS entries({names})) AS entries",
            [list(values) for values in zip(*rows, strict=True)],
        )

    def appended(self, connection: Any, history: str, state: str) -> Term:
        return appended(history, state, database_now()), []

    def counting(self, update: str, column: str) -> str:
        # Only the last line knows this name: inside, a table of a model may have it.
        return (
            f"WITH fsmworker_written(value) AS ({update} RETURNING {column}) "
            f"SELECT count(*), count(value) FROM fsmworker_written"
        )


# What the transition log keeps of an outcome, beside what is in it anyway.
ENTRY = {
    "row_text": "text",
    "digest": "bigint",
    "cause": "text",
    "reason": "text",
    "attempt": "smallint",
}


def fenced(table: Table, row: str, same_state: bool = True) -> str:
    """The condition that the table's row carries the token, and is in the state, of ``row``."""
    token = f"{table.claim} IS NOT DISTINCT FROM {row}.token"
    return f"{token} AND {table.state} = {row}.state" if same_state else token


def fences(table: Table) -> str:
    """Held rows, from one array for each column of the key, and those of tokens and states."""
    return _unnested(table, table.alias("fence"), FENCE)


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
def claim(table: Table, now: str, hurried: bool, key: KeyColumn | None = None) -> str:
    """Each lane walks its own stretch of the index and stops at its limit.

    ``hurried``: the claim's commit does not wait for the disk, nor for a standby. It is the one
    write that need not outlive the server: a row whose claim is lost is due again, and the token
    that nobody has written down fences off whoever still works on it. The setting ends with the
    statement's own transaction (PostgreSQL's manual, "Asynchronous Commit", "set_config").
    """
    t, set_to = table, table.column
    first, due, lane, row = map(t.alias, ("first", "due", "lane", "row"))
    setting = "SELECT set_config('synchronous_commit', 'off', true)" if hurried else "SELECT 1"
    is_fresh = fresh(t)
    keys, names, keyed = _keyed(t, lane, key)
    latest = f"LEAST({now}, %s::timestamptz)"
    due_now = f"""
                    AND {t.next} >= {lane}.since
                    AND {t.next} <= {latest}"""
    order = t.next
    if key is not None:
        # In a form and an order that only the index by this column has, whatever the planner knows
        # or thinks of the table.
        column = t.qualified[key.name]
        order = f"{column}, {t.next}"
        if not key.is_null:
            keyed, due_now = (
                t.keyed_by(key.name),
                f"""
                    AND ({column}, {t.next}) >= ({lane}.lane_key, {lane}.since)
                    AND ({column}, {t.next}) <= ({lane}.lane_key, {latest})
                    AND {t.next} IS NOT NULL""",
            )
    return f"""
        WITH {first} AS MATERIALIZED ({setting}), {due} AS MATERIALIZED (
            SELECT {row}.id
            FROM {first} CROSS JOIN unnest((SELECT %s::text[]), (SELECT %s::text[]::timestamptz[]),
                        (SELECT %s::int[]){keys}) AS {lane}(state, since, amount{names})
            CROSS JOIN LATERAL (
                SELECT ctid AS id FROM {t.name}
                WHERE {t.state} = {lane}.state{keyed}{due_now}
                    AND ({t.lease} IS NULL OR {t.lease} <= {now})
                ORDER BY {order}
                LIMIT {lane}.amount
                FOR NO KEY UPDATE SKIP LOCKED) AS {row}
        )
        UPDATE {t.name} SET
            {set_to["state_failures"]} = CASE WHEN {is_fresh} THEN {t.failures}
                ELSE LEAST({t.failures}::int + 1, {MOST_FAILURES}) END,
            {set_to["state_claim"]} = CASE WHEN {is_fresh} THEN %s ELSE %s END,
            {set_to["state_lease"]} = {now} + %s * interval '1 second'
        WHERE ctid = ANY (ARRAY (SELECT id FROM {due}))
        RETURNING {t.whole_row}
    """


def _keyed(table: Table, lane: str, key: KeyColumn | None) -> tuple[str, str, str]:
    """What lanes with a key add: an array of values, its name, and the condition."""
    terms = lane_terms(table, key, f"{lane}.lane_key")
    if key is None or key.is_null:
        return "", "", terms
    return f", (SELECT %s::{table.type_of(key.name)}[])", ", lane_key", terms


@cache
def due_keys(table: Table, state: str, column: str, now: str, first: bool) -> str:
    """The next values of a column, and whether each has due rows: one look at the index for each.

    From the value asked for on, or with ``first`` from the first one. (A "loose index scan", as the
    PostgreSQL wiki has it.) The state is written out: the index is a partial one.
    """
    t = table
    walked, found, key = t.alias("walked"), t.alias("found"), t.qualified[column]

    def one(beyond: str) -> str:
        return f"""
            SELECT {key} AS lane_key, {t.next} <= {now} AS due FROM {t.name}
            WHERE {t.state} = '{state}' AND {t.next} IS NOT NULL AND {beyond}
            ORDER BY {key}, {t.next} LIMIT 1"""

    def after(value: str) -> str:
        return f"({key}, {t.next}) > ({value}, 'infinity'::timestamptz)"

    start = f"{key} IS NOT NULL" if first else after(f"%s::{t.type_of(column)}")
    return f"""
        WITH RECURSIVE {walked} AS (
            SELECT 1 AS number, {found}.* FROM ({one(start)}) AS {found}
            UNION ALL
            SELECT number + 1, {found}.* FROM {walked}
            CROSS JOIN LATERAL ({one(after(f"{walked}.lane_key"))}) AS {found}
            WHERE number < %s
        )
        SELECT lane_key, due FROM {walked}
    """


@cache
def peek(table: Table, position: int, now: str, key: KeyColumn | None = None) -> str:
    """The first free row of each lane; ``position`` tells which model's they are."""
    t = table
    lane, first = t.alias("lane"), t.alias("first")
    keys, names, keyed = _keyed(t, lane, key)
    return f"""
        SELECT {position}, {lane}.state, extract(epoch FROM {first}.due - {now})::float8
        FROM unnest((SELECT %s::text[]), (SELECT %s::text[]::timestamptz[]){keys})
            AS {lane}(state, since{names})
        CROSS JOIN LATERAL (
            SELECT {t.next} AS due FROM {t.name}
            WHERE {t.state} = {lane}.state{keyed}
                AND {t.next} >= {lane}.since
                AND ({t.lease} IS NULL OR {t.lease} <= {now})
            ORDER BY {t.next}
            LIMIT 1) AS {first}
    """


@cache
def lock_rows(table: Table, now: str, number: int) -> str:
    """Read whole rows by their keys, behind the database's time, and lock them in that order.

    Those that somebody else has locked are left out.
    """
    key = f"({', '.join(['%s'] * len(table.key))})"
    return f"""
        SELECT {now}, {table.whole_row} FROM {table.name}
        WHERE ({table.returned_key}) IN ({", ".join([key] * number)})
        ORDER BY {table.returned_key}
        FOR NO KEY UPDATE SKIP LOCKED
    """


@cache
def fired_events(table: Table, number: int) -> str:
    """Read pending events of so many rows that have fired, in order; ``table`` is the events'."""
    t, row, fires = table, table.qualified["row_hash"], table.qualified["fires_at"]
    return f"""
        SELECT {t.whole_row} FROM {t.name}
        WHERE {t.qualified["model"]} = %s AND {row} IN ({", ".join(["%s"] * number)})
            AND {t.state} = 'pending' AND {fires} <= %s
        ORDER BY {row}, {fires}, {t.returned_key}
        LIMIT %s
    """


@cache
def settle(
    table: Table, now: str, lease: str, claim: str, returned: tuple[str, ...], logged: bool
) -> str:
    """Lock each row by its key if the fence fences, then update it by its row id.

    ``logged``: what was moved goes into the transition log, of what the update has returned.
    """
    t, after = table, "* interval '1 second'"
    held, outcome, row = map(t.alias, ("held", "outcome", "row"))
    is_touched = touched_sql(t.next, t.lease)
    ends = t.life_ends_in(f"{held}.target")
    changes = columns_entering(
        state=f"{held}.target",
        now=now,
        due=lambda entered: (
            f"LEAST({now} + {held}.delay {after}, {entered} + {held}.timeout {after}, "
            f"CASE WHEN NOT {held}.moved AND {held}.failures = 0 AND {is_touched} "
            f"THEN {t.next} END{f', {ends}' if ends else ''})"
        ),
        failures=f"{held}.failures",
        lease=lease,
        claim=claim,
        history=appended(t.history, f"{held}.target", now) if t.history else None,
        trace=f"COALESCE({held}.trace, {t.trace})" if t.trace else None,
        if_moved=lambda new, column: (
            f"CASE WHEN {held}.moved THEN {new} ELSE {t.qualified[column]} END"
        ),
    )
    entry, entered, kept = OUTCOME | TRACE if t.trace else OUTCOME, "", ""
    if logged:
        entry, entered, kept = entry | ENTRY, f", {t.changed} AS entered", f", {row}.entered"
    before = f"""
        WITH {held} AS MATERIALIZED (
            SELECT {row}.id{kept}, {outcome}.*
            FROM (
                SELECT * FROM {_unnested(t, outcome, entry)}
                ORDER BY {order_of(t)}) AS {outcome}
            CROSS JOIN LATERAL (
                SELECT ctid AS id{entered} FROM {t.name}
                WHERE {key_of(t, outcome)} AND {fenced(t, outcome)}
                FOR NO KEY UPDATE SKIP LOCKED) AS {row}
        )"""
    update = f"""
        UPDATE {t.name} SET {t.assignments(changes)}
        FROM {held}
        WHERE {t.name}.ctid = {held}.id
        RETURNING {", ".join(returned)}"""
    if logged:
        return before + _and_log(t, held, update, len(returned), now)
    return f"{before}{update}\n    "


def _and_log(table: Table, held: str, update: str, returned: int, now: str) -> str:
    """After ``held``: ``update``, what it has moved into the log, and what it has ``returned``."""
    written, logged = map(table.alias, ("written", "logged"))
    results = ", ".join([f"returned_{number}" for number in range(returned)])
    known = ["moved", "state", "target", "entered", *ENTRY]
    terms = {
        "model": "%s::text",
        "row": "row_text",
        "digest": "digest",
        "source": "state",
        "target": "target",
        "at": now,
        "duration": f"{now} - entered",
        "cause": "cause",
        "trigger": "''",
        "by": "''",
        "reason": "reason",
        "worker": "%s::text",
        "attempt": "attempt",
    }
    columns = ", ".join(table.quote(FIELDS[name].column) for name in terms)
    log = table.quote(TransitionRecord._meta.db_table)
    return f""", {written}({results}, {", ".join(known)}) AS ({update},
            {", ".join(f"{held}.{name}" for name in known)}
        ), {logged} AS (
            INSERT INTO {log} ({columns})
            SELECT {", ".join(terms.values())} FROM {written} WHERE moved
        )
        SELECT {results} FROM {written}
    """


def sweep(table: Table, rows: QuerySet[Any], target: State, now: str) -> Term | None:
    """Lock and move rows at once; None where the condition can be true of no row.

    The condition is the ORM's. It stands in the very SELECT that locks, so that PostgreSQL looks at
    it again, with the row's new values, if somebody has changed the row since the statement began.
    """
    found = simply_named(rows.order_by("pk"))
    name = table.quote(name_in(found))
    found = found.values_list(RawSQL(f"{name}.ctid", ()))
    try:
        select, params = found.query.get_compiler(table.database).as_sql()
    except EmptyResultSet:
        return None
    trace = current_trace() if table.trace else ""
    before, after = _around(table, name, now, table.life_ends(target.name), bool(trace))
    kept = [target.name] if table.history else []
    kept += [trace] if trace else []
    return f"{before}{select}{after}", [*params, *kept, target.first_due, target.name]


@cache
def _around(
    table: Table, name: str, now: str, life_ends: str | None, traced: bool
) -> tuple[str, str]:
    """What comes before and after the SELECT, in which the table has that ``name``.

    ``life_ends`` is the column with the end of a row's life, where that counts. ``traced``: rows
    keep the trace that moves them.
    """
    t, free = table, table.alias("free")
    first_due = f"{now} + %s::float8 * interval '1 second'"
    changes = columns_entering(
        state="%s",
        now=now,
        due=lambda _: f"LEAST({first_due}, {life_ends})" if life_ends else first_due,
        failures="0",
        lease="NULL",
        claim="NULL",
        history=appended(t.history, "%s", now) if t.history else None,
        trace="%s" if traced else None,
    )
    before = f"WITH {free}(id) AS MATERIALIZED ("
    after = f"""
            FOR NO KEY UPDATE OF {name} SKIP LOCKED
        )
        UPDATE {t.name} SET {t.assignments(changes)}
        WHERE ctid = ANY (ARRAY (SELECT id FROM {free}))
        RETURNING {t.returned_key}
    """
    return before, after
