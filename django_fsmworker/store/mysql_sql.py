"""The longer statements for MariaDB and MySQL.

Rows are reached by their keys in the primary index, whatever the optimizer thinks of the batch:
for a list of keys it may read a small table as a whole, and a locking read waits for every row on
its way that somebody else has locked. A list of keys stays below 1,000, from where MariaDB joins it
like a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import Any

from django_fsmworker import clock
from django_fsmworker.models.fields import MOST_FAILURES
from django_fsmworker.store.outcomes import Outcome
from django_fsmworker.store.tables import Table

MOST_KEYS = 500

Key = Sequence[Any]

LOCK = "FOR UPDATE SKIP LOCKED"
BEGINNING = "1000-01-01"  # the first day that a column can hold


def database_now() -> str:
    """UTC, whatever time zone the session has."""
    travelled = microseconds(clock.travelled().total_seconds())
    if not travelled:
        return "UTC_TIMESTAMP(6)"
    return f"(UTC_TIMESTAMP(6) + INTERVAL {travelled} MICROSECOND)"


def microseconds(seconds: float) -> int:
    """As an INTERVAL takes them: its seconds lose what is behind the point on the way."""
    return timedelta(seconds=seconds) // timedelta(microseconds=1)


def keyed(table: Table, keys: int) -> str:
    """The condition that reaches so many rows by their keys, whose parts are the parameters."""
    columns, key = table.returned_key, ", ".join(["%s"] * len(table.key))
    if table.is_composite:
        columns, key = f"({columns})", f"({key})"
    return f"{columns} IN ({', '.join([key] * keys)})"


@cache
def due_sql(table: Table, now: str, until: bool) -> str:
    """The keys of a lane's free rows, oldest first: it walks its own stretch of the index."""
    t = table
    by = f"AND {t.next} <= %s" if until else ""
    return f"""
        SELECT {t.returned_key} FROM {t.name}
        WHERE {t.state} = %s AND {t.next} >= %s AND {t.next} <= {now} {by}
            AND ({t.lease} IS NULL OR {t.lease} <= {now})
        ORDER BY {t.next} LIMIT %s"""


@cache
def lock_due_sql(table: Table, columns: str, lane: int, now: str, until: bool) -> str:
    """Lock the first free rows of a lane that nobody else has locked, and read them.

    They are found without locks and locked by their keys. What a locking read walks over by way of
    another index than the primary one stays locked until the commit, whether it is wanted or not:
    held rows, too, which could not be settled meanwhile.
    """
    t = table
    pairs = " AND ".join(f"{t.name}.{column} = due.{column}" for column in t.key)
    return f"""
        (SELECT {lane}, {now}, {columns}
        FROM ({due_sql(table, now, until)}) AS due
            STRAIGHT_JOIN {t.name} FORCE INDEX (PRIMARY) ON {pairs}
        WHERE {t.name}.{t.state} = %s AND {t.name}.{t.next} <= {now}
            AND ({t.name}.{t.lease} IS NULL OR {t.name}.{t.lease} <= {now})
        LIMIT %s
        {LOCK})"""


@cache
def count_due_sql(table: Table, lane: int, now: str, until: bool) -> str:
    """How many free rows a lane has, as far as one looks."""
    return f"(SELECT {lane}, COUNT(*) FROM ({due_sql(table, now, until)}) AS due)"


def claim_sql(table: Table, keys: int) -> str:
    """A lease that is there has lapsed. (Assignments see what those before them have written.)"""
    t = table
    return f"""
        UPDATE {t.name} FORCE INDEX (PRIMARY) SET
            {t.claim} = CASE WHEN {t.lease} IS NULL THEN %s ELSE %s END,
            {t.failures} = CASE WHEN {t.lease} IS NULL THEN {t.failures}
                ELSE LEAST({t.failures} + 1, {MOST_FAILURES}) END,
            {t.lease} = %s
        WHERE {keyed(t, keys)}"""


@cache
def peek_sql(table: Table, position: int, now: str) -> str:
    """The first free row of a lane, ``position`` tells which one's; how far off it is due."""
    t = table
    return f"""
        (SELECT {position}, TIMESTAMPDIFF(MICROSECOND, {now}, {t.next}) FROM {t.name}
        WHERE {t.state} = %s AND {t.next} >= %s AND ({t.lease} IS NULL OR {t.lease} <= {now})
        ORDER BY {t.next} LIMIT 1)"""


def count_sql(table: Table, keys: Sequence[int], same_state: bool) -> str:
    """Locks rows and tells how many there are: so many keys, a token and a state, and more such."""
    t = table
    fence = f"AND {t.claim} <=> %s"
    if same_state:
        fence += f" AND CAST({t.state} AS BINARY) = %s"
    conditions = " OR ".join(f"({keyed(t, number)} {fence})" for number in keys)
    return f"""
        SELECT COUNT(*) FROM {t.name} FORCE INDEX (PRIMARY)
        WHERE {conditions}
        {LOCK}"""


def holds_sql(table: Table, keys: int, lock: bool) -> str:
    """What the fence asks for, in the order of the keys."""
    t = table
    return f"""
        SELECT {t.returned_key}, {t.state}, {t.claim} FROM {t.name} FORCE INDEX (PRIMARY)
        WHERE {keyed(t, keys)}
        ORDER BY {t.returned_key}
        {LOCK if lock else ""}"""


def settle_sql(
    table: Table, outcomes: Sequence[tuple[Key, Outcome]], lease: str, now: str
) -> tuple[str, list[Any]]:
    """Write outcomes that differ in their due times only, each with its key; and the parameters."""
    t = table
    _, like = outcomes[0]
    entered, history = t.changed, ""
    params: list[Any] = []
    if like.moved:
        entered = now
        if t.history:
            moment = f"DATE_FORMAT({now}, '%%Y-%%m-%%dT%%H:%%i:%%s.%%f+00:00')"
            history = (
                f"{t.history} = JSON_ARRAY_APPEND(COALESCE({t.history}, '[]'), '$', "
                f"JSON_ARRAY(%s, {moment})),"
            )
            params.append(like.target)
    next_, next_params = _next_sql(t, outcomes, entered, now)
    sql = f"""
        UPDATE {t.name} FORCE INDEX (PRIMARY) SET {history}
            {t.next} = {next_},
            {t.changed} = {entered},
            {t.state} = %s,
            {t.failures} = %s,
            {t.lease} = {lease},
            {t.claim} = %s
        WHERE {keyed(t, len(outcomes))}"""
    return sql, [*params, *next_params, like.target, min(like.failures, MOST_FAILURES)]


def _next_sql(
    table: Table, outcomes: Sequence[tuple[Key, Outcome]], entered: str, now: str
) -> tuple[str, list[Any]]:
    """One expression for all due times, or one for each key where backoff sets them apart."""
    expressions = [(key, *_due_sql(outcome, entered, now)) for key, outcome in outcomes]
    if len({(sql, *params) for _, sql, params in expressions}) == 1:
        _, sql, params = expressions[0]
        return sql, params
    key_is = table.key_is(["%s"] * len(table.key))
    cases = " ".join(f"WHEN {key_is} THEN {sql}" for _, sql, _ in expressions)
    return f"CASE {cases} END", [each for key, _, own in expressions for each in (*key, *own)]


def _due_sql(outcome: Outcome, entered: str, now: str) -> tuple[str, list[Any]]:
    moments, params = [], []
    if outcome.delay is not None:
        moments.append(f"{now} + INTERVAL %s MICROSECOND")
        params.append(microseconds(outcome.delay))
    if outcome.timeout is not None:
        moments.append(f"{entered} + INTERVAL %s MICROSECOND")
        params.append(microseconds(outcome.timeout))
    if not moments:
        return "NULL", []
    return (f"LEAST({', '.join(moments)})" if len(moments) > 1 else moments[0]), params
