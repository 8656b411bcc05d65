"""The longer statements for MariaDB and MySQL.

Rows are reached by their keys in the primary index, whatever the optimizer thinks of the batch:
for a list of keys it may read a small table as a whole, and a locking read waits for every row on
its way that somebody else has locked. A list of keys stays below 1,000, from where MariaDB joins it
like a table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from django_fsmworker import clock
from django_fsmworker.models.engine import Dialect, LoggedRow, Term
from django_fsmworker.models.entering import columns_entering
from django_fsmworker.models.fields import MOST_FAILURES
from django_fsmworker.models.touching import touched_sql
from django_fsmworker.store.fence import KeyColumn, Outcome, fresh, lane_terms, traces_kept
from django_fsmworker.store.tables import Table

MOST_LISTED = 500  # keys in a statement

Key = Sequence[Any]

LOCK = "FOR UPDATE SKIP LOCKED"
CLOCK = -1  # what the row with the time has for a lane
REVOKED = -2  # the lane is taken from this where the row's last claim was revoked
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BEGINNING = "1000-01-01"  # the first day that a column can hold
NEVER = "TIMESTAMP'9999-12-31 23:59:59'"


def database_now() -> str:
    """UTC, whatever time zone the session has."""
    travelled = microseconds(clock.travelled().total_seconds())
    if not travelled:
        return "UTC_TIMESTAMP(6)"
    return f"(UTC_TIMESTAMP(6) + INTERVAL {travelled} MICROSECOND)"


def appended(history: str, state: str, now: str) -> str:
    """A history with one more entry, its moment as other databases and Python write it."""
    moment = f"DATE_FORMAT({now}, '%%Y-%%m-%%dT%%H:%%i:%%s.%%f+00:00')"
    return f"JSON_ARRAY_APPEND(COALESCE({history}, '[]'), '$', JSON_ARRAY({state}, {moment}))"


class MySQLDialect(Dialect):
    """What the ORM has to be told about MariaDB and MySQL.

    They lock, and wait for, each row that a statement looks at, wanted or not; so its keys are read
    first. MariaDB joins a list of 1,000 keys like a table, and locks in the order of that.
    """

    most_locked = MOST_LISTED
    returns_updated = False

    def now(self, connection: Any) -> Term:
        return database_now(), []

    def later(self, connection: Any, seconds: float) -> Term:
        return f"{database_now()} + INTERVAL %s MICROSECOND", [microseconds(seconds)]

    def logged(self, connection: Any, rows: Sequence[LoggedRow]) -> Term:
        # As one text: a driver in Python takes as long for each value as for all the rest of it.
        listed = [
            (name, digest, source, entered and (entered - EPOCH) // timedelta(microseconds=1))
            for name, digest, source, entered in rows
        ]
        now = f"TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {database_now()})"
        return (
            f"(SELECT row_text, digest, source, {now} - entered AS duration FROM JSON_TABLE(%s, "
            f"'$[*]' COLUMNS (row_text VARCHAR(255) PATH '$[0]', digest BIGINT PATH '$[1]', "
            f"source VARCHAR(255) PATH '$[2]', entered BIGINT PATH '$[3]')) AS listed) AS entries",
            [json.dumps(listed, ensure_ascii=False)],
        )

    def appended(self, connection: Any, history: str, state: str) -> Term:
        return appended(history, state, database_now()), []


def microseconds(seconds: float) -> int:
    """As an INTERVAL takes them: its seconds lose what is behind the point on the way."""
    return timedelta(seconds=seconds) // timedelta(microseconds=1)


def keyed(table: Table, keys: Sequence[Key]) -> Term:
    """The condition that reaches these rows by their keys.

    Numbers are written out: a driver in Python takes as long for each as for all the rest of them.
    """
    columns, key = table.returned_key, ", ".join(["%s"] * len(table.key))
    if table.is_composite:
        columns, key = f"({columns})", f"({key})"
    elif all(type(part) is int for (part,) in keys):
        return f"{columns} IN ({', '.join([str(part) for (part,) in keys])})", []
    return f"{columns} IN ({', '.join([key] * len(keys))})", [part for key in keys for part in key]


def in_lane(table: Table, key: KeyColumn | None) -> str:
    """The condition that lanes with a key add."""
    return lane_terms(table, key, "%s")


@cache
def due_keys(table: Table, column: str, now: str, first: bool) -> str:
    """The next values of a column, and whether each has due rows: one look at the index for each.

    From the value asked for on, or with ``first`` from the first one. (A "loose index scan", as the
    manuals of both databases have it under GROUP BY.)
    """
    t = table
    key, beyond = t.qualified[column], "IS NOT NULL" if first else "> %s"
    return f"""
        SELECT {key}, MIN({t.next}) <= {now} FROM {t.name}
        WHERE {t.state} = %s AND {key} {beyond}
        GROUP BY {key} ORDER BY {key} LIMIT %s"""


@cache
def due(table: Table, now: str, until: bool, key: KeyColumn | None = None) -> str:
    """The keys of a lane's free rows, oldest first: it walks its own stretch of the index."""
    t = table
    by = f"AND {t.next} <= %s" if until else ""
    return f"""
        SELECT {t.returned_key} FROM {t.name}
        WHERE {t.state} = %s{in_lane(t, key)} AND {t.next} >= %s AND {t.next} <= {now} {by}
            AND ({t.lease} IS NULL OR {t.lease} <= {now})
        ORDER BY {t.next} LIMIT %s"""


@cache
def lock_due(
    table: Table, columns: str, now: str, until: bool, key: KeyColumn | None = None
) -> str:
    """Lock the first free rows of a lane that nobody else has locked, and read them.

    They are found without locks and locked by their keys. What a locking read walks over by way of
    another index than the primary one stays locked until the commit, whether it is wanted or not:
    held rows, too, which could not be settled meanwhile.
    """
    t, found = table, table.alias("due")
    pairs = " AND ".join(f"{t.name}.{column} = {found}.{column}" for column in t.key)
    return f"""
        (SELECT {columns}
        FROM ({due(table, now, until, key)}) AS {found}
            STRAIGHT_JOIN {t.name} FORCE INDEX (PRIMARY) ON {pairs}
        WHERE {t.state} = %s{in_lane(t, key)} AND {t.next} <= {now}
            AND ({t.lease} IS NULL OR {t.lease} <= {now})
        LIMIT %s
        {LOCK})"""


def lane_of(table: Table, number: int) -> str:
    """The number of a lane, as a row has it; below zero, like its token, if that was revoked."""
    return f"IF({table.claim} < 0, {REVOKED - number}, {number})"


@cache
def clock_row(names: tuple[str, ...], now: str) -> str:
    """A row like those of the lanes, with the database's time where they have their lease."""
    values = {"state_claim": str(CLOCK), "state_lease": now}
    return f"(SELECT {', '.join(values.get(name, 'NULL') for name in names)})"


@cache
def count_due(table: Table, lane: int, now: str, until: bool, key: KeyColumn | None = None) -> str:
    """How many free rows a lane has, as far as one looks."""
    return f"(SELECT {lane}, COUNT(*) FROM ({due(table, now, until, key)}) AS due)"


def claim(table: Table, keys: Sequence[Key], token: int, end: Any) -> Term:
    """A lease that is there has lapsed. (Assignments see what those before them have written.)"""
    t, set_to = table, table.column
    condition, params = keyed(t, keys)
    is_fresh = fresh(t)
    sql = f"""
        UPDATE {t.name} FORCE INDEX (PRIMARY) SET
            {set_to["state_failures"]} = CASE WHEN {is_fresh} THEN {t.failures}
                ELSE LEAST({t.failures} + 1, {MOST_FAILURES}) END,
            {set_to["state_claim"]} = CASE WHEN {is_fresh} THEN %s ELSE %s END,
            {set_to["state_lease"]} = %s
        WHERE {condition}"""
    return sql, [token, token + 1, end, *params]


@cache
def peek(table: Table, position: int, now: str, key: KeyColumn | None = None) -> str:
    """The first free row of a lane, ``position`` tells which one's; how far off it is due."""
    t = table
    return f"""
        (SELECT {position}, TIMESTAMPDIFF(MICROSECOND, {now}, {t.next}) FROM {t.name}
        WHERE {t.state} = %s{in_lane(t, key)} AND {t.next} >= %s
            AND ({t.lease} IS NULL OR {t.lease} <= {now})
        ORDER BY {t.next} LIMIT 1)"""


def count(table: Table, fences: Mapping[tuple[int | None, str | None], Sequence[Key]]) -> Term:
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


def fences(table: Table, keys: Sequence[Key], lock: bool) -> Term:
    """What the fence asks for, in the order of the keys."""
    t = table
    condition, params = keyed(t, keys)
    sql = f"""
        SELECT {t.returned_key}, {t.state}, {t.claim} FROM {t.name} FORCE INDEX (PRIMARY)
        WHERE {condition}
        ORDER BY {t.returned_key}
        {LOCK if lock else ""}"""
    return sql, params


def update(table: Table, keys: Sequence[Key], changes: str, values: list[Any]) -> Term:
    """An UPDATE that makes the same changes to all rows with these keys."""
    condition, params = keyed(table, keys)
    sql = f"UPDATE {table.name} FORCE INDEX (PRIMARY) SET {changes} WHERE {condition}"
    return sql, [*values, *params]


def settle(
    table: Table,
    outcomes: Sequence[tuple[Key, Outcome]],
    lease: str,
    claim: Sequence[Any],
    now: str,
) -> Term:
    """Write outcomes that differ in their due times only, each with its key.

    ``claim`` has what the lease's expression asks for and, last, the new token.
    """
    t = table
    _, like = outcomes[0]
    asked: list[Any] = []

    def due(entered: str) -> str:
        term, params = _next_sql(t, outcomes, entered, now)
        asked.extend(params)
        if (ends := t.life_ends(like.target)) is not None:
            either = f"COALESCE({term}, {NEVER}), COALESCE({ends}, {NEVER})"
            term = f"NULLIF(LEAST({either}), {NEVER})"
        if like.moved or like.failures:
            return term
        is_touched = touched_sql(t.next, t.lease)
        return f"LEAST({term}, CASE WHEN {is_touched} THEN {t.next} ELSE {NEVER} END)"

    keeps_history = like.moved and t.history is not None
    trace, traces = _trace_sql(t, outcomes)
    changes = columns_entering(
        state="%s",
        now=now,
        due=due,
        failures="%s",
        lease=lease,
        claim="%s",
        history=appended(t.history or "", "%s", now) if keeps_history else None,
        trace=trace,
        if_moved=lambda new, column: new if like.moved else t.qualified[column],
    )
    entry = [like.target] if keeps_history else []
    failures = min(like.failures, MOST_FAILURES)
    values = [*entry, *traces, *asked, like.target, failures, *claim]
    return update(t, [key for key, _ in outcomes], t.assignments(changes), values)


def _next_sql(
    table: Table, outcomes: Sequence[tuple[Key, Outcome]], entered: str, now: str
) -> Term:
    """One expression for all due times, or one for each key where backoff sets them apart."""
    if len({(outcome.delay, outcome.timeout) for _, outcome in outcomes}) == 1:
        return _due_sql(outcomes[0][1], entered, now)
    return _by_key(table, [(key, _due_sql(outcome, entered, now)) for key, outcome in outcomes])


def _by_key(table: Table, terms: Sequence[tuple[Key, Term]]) -> Term:
    """An expression that is another one for each key."""
    key_is = table.key_is(["%s"] * len(table.key))
    cases = " ".join(f"WHEN {key_is} THEN {sql}" for _, (sql, _) in terms)
    return f"CASE {cases} END", [each for key, (_, own) in terms for each in (*key, *own)]


def _trace_sql(
    table: Table, outcomes: Sequence[tuple[Key, Outcome]]
) -> tuple[str | None, Sequence[Any]]:
    """The traces that rows are to keep; None where none gets another one."""
    traces = traces_kept([outcome for _, outcome in outcomes]) if table.trace else []
    if not any(traces):
        return None, []
    if len(set(traces)) == 1:
        return "%s", traces[:1]
    terms = zip((key for key, _ in outcomes), traces, strict=True)
    term, params = _by_key(table, [(key, ("%s", [trace])) for key, trace in terms])
    return f"COALESCE({term}, {table.trace})", params


def _due_sql(outcome: Outcome, entered: str, now: str) -> Term:
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
