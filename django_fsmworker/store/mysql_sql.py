"""The longer statements for MariaDB and MySQL.

Rows are reached by their keys in the primary index, whatever the optimizer thinks of the batch:
for a list of keys it may read a small table as a whole, and a locking read waits for every row on
its way that somebody else has locked. A list of keys stays below 1,000, from where MariaDB joins it
like a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any

from django_fsmworker import clock
from django_fsmworker.models.fields import MOST_FAILURES
from django_fsmworker.store.outcomes import Outcome
from django_fsmworker.store.tables import Table

MOST_KEYS = 500

Key = Sequence[Any]
Statement = tuple[str, list[Any]]  # or a part of one, with its parameters

LOCK = "FOR UPDATE SKIP LOCKED"
CLOCK = -1  # what the row with the time has for a lane
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


def keyed(table: Table, keys: Sequence[Key]) -> Statement:
    """The condition that reaches these rows by their keys.

    Numbers are written out: a driver in Python takes as long for each as for all the rest of them.
    """
    columns, key = table.returned_key, ", ".join(["%s"] * len(table.key))
    if table.is_composite:
        columns, key = f"({columns})", f"({key})"
    elif all(type(part) is int for (part,) in keys):
        return f"{columns} IN ({', '.join([str(part) for (part,) in keys])})", []
    return f"{columns} IN ({', '.join([key] * len(keys))})", [part for key in keys for part in key]


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
def lock_due_sql(table: Table, columns: str, now: str, until: bool) -> str:
    """Lock the first free rows of a lane that nobody else has locked, and read them.

    They are found without locks and locked by their keys. What a locking read walks over by way of
    another index than the primary one stays locked until the commit, whether it is wanted or not:
    held rows, too, which could not be settled meanwhile.
    """
    t = table
    pairs = " AND ".join(f"{t.name}.{column} = due.{column}" for column in t.key)
    return f"""
        (SELECT {columns}
        FROM ({due_sql(table, now, until)}) AS due
            STRAIGHT_JOIN {t.name} FORCE INDEX (PRIMARY) ON {pairs}
        WHERE {t.name}.{t.state} = %s AND {t.name}.{t.next} <= {now}
            AND ({t.name}.{t.lease} IS NULL OR {t.name}.{t.lease} <= {now})
        LIMIT %s
        {LOCK})"""


@cache
def clock_sql(names: tuple[str, ...], now: str) -> str:
    """A row like those of the lanes, with the database's time where they have their lease."""
    values = {"state_claim": str(CLOCK), "state_lease": now}
    return f"(SELECT {', '.join(values.get(name, 'NULL') for name in names)})"


@cache
def count_due_sql(table: Table, lane: int, now: str, until: bool) -> str:
    """How many free rows a lane has, as far as one looks."""
    return f"(SELECT {lane}, COUNT(*) FROM ({due_sql(table, now, until)}) AS due)"


def claim_sql(table: Table, keys: Sequence[Key], token: int, end: Any) -> Statement:
    """A lease that is there has lapsed. (Assignments see what those before them have written.)"""
    t = table
    condition, params = keyed(t, keys)
    sql = f"""
        UPDATE {t.name} FORCE INDEX (PRIMARY) SET
            {t.claim} = CASE WHEN {t.lease} IS NULL THEN %s ELSE %s END,
            {t.failures} = CASE WHEN {t.lease} IS NULL THEN {t.failures}
                ELSE LEAST({t.failures} + 1, {MOST_FAILURES}) END,
            {t.lease} = %s
        WHERE {condition}"""
    return sql, [token, token + 1, end, *params]


@cache
def peek_sql(table: Table, position: int, now: str) -> str:
    """The first free row of a lane, ``position`` tells which one's; how far off it is due."""
    t = table
    return f"""
        (SELECT {position}, TIMESTAMPDIFF(MICROSECOND, {now}, {t.next}) FROM {t.name}
        WHERE {t.state} = %s AND {t.next} >= %s AND ({t.lease} IS NULL OR {t.lease} <= {now})
        ORDER BY {t.next} LIMIT 1)"""


def count_sql(
    table: Table, fences: Mapping[tuple[int | None, str | None], Sequence[Key]]
) -> Statement:
    """Locks rows and tells how many there are: for each token (and state) those with these keys."""
    t = table
    conditions, params = [], []
    for (token, state), keys in fences.items():
        condition, own = keyed(t, keys)
        params += [*own, token]
        if state is not None:
            params.append(state)
        same_state = "" if state is None else f" AND CAST({t.state} AS BINARY) = %s"
        conditions.append(f"({condition} AND {t.claim} <=> %s{same_state})")
    sql = f"""
        SELECT COUNT(*) FROM {t.name} FORCE INDEX (PRIMARY)
        WHERE {" OR ".join(conditions)}
        {LOCK}"""
    return sql, params


def holds_sql(table: Table, keys: Sequence[Key], lock: bool) -> Statement:
    """What the fence asks for, in the order of the keys."""
    t = table
    condition, params = keyed(t, keys)
    sql = f"""
        SELECT {t.returned_key}, {t.state}, {t.claim} FROM {t.name} FORCE INDEX (PRIMARY)
        WHERE {condition}
        ORDER BY {t.returned_key}
        {LOCK if lock else ""}"""
    return sql, params


def update_sql(table: Table, keys: Sequence[Key], changes: str, values: list[Any]) -> Statement:
    """The same changes to all of these rows."""
    condition, params = keyed(table, keys)
    sql = f"UPDATE {table.name} FORCE INDEX (PRIMARY) SET {changes} WHERE {condition}"
    return sql, [*values, *params]


def settle_sql(
    table: Table,
    outcomes: Sequence[tuple[Key, Outcome]],
    lease: str,
    claim: Sequence[Any],
    now: str,
) -> Statement:
    """Write outcomes that differ in their due times only, each with its key.

    ``claim`` has what the lease's expression asks for and, last, the new token.
    """
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
    changes = f"""{history}
            {t.next} = {next_},
            {t.changed} = {entered},
            {t.state} = %s,
            {t.failures} = %s,
            {t.lease} = {lease},
            {t.claim} = %s"""
    failures = min(like.failures, MOST_FAILURES)
    values = [*params, *next_params, like.target, failures, *claim]
    return update_sql(t, [key for key, _ in outcomes], changes, values)


def _next_sql(
    table: Table, outcomes: Sequence[tuple[Key, Outcome]], entered: str, now: str
) -> Statement:
    """One expression for all due times, or one for each key where backoff sets them apart."""
    if len({(outcome.delay, outcome.timeout) for _, outcome in outcomes}) == 1:
        return _due_sql(outcomes[0][1], entered, now)
    expressions = [(key, *_due_sql(outcome, entered, now)) for key, outcome in outcomes]
    key_is = table.key_is(["%s"] * len(table.key))
    cases = " ".join(f"WHEN {key_is} THEN {sql}" for _, sql, _ in expressions)
    return f"CASE {cases} END", [each for key, _, own in expressions for each in (*key, *own)]


def _due_sql(outcome: Outcome, entered: str, now: str) -> Statement:
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
