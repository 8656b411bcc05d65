"""The longer statements for SQLite.

Held rows go in as one JSON list of lists. Each begins with what the fence asks for, the token and
the state, and ends with the parts of the key. Outcomes go in as two lists of the same length: what
is written, and the keys of all rows to which that is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import cache
from typing import Any

from django_fsmworker import clock
from django_fsmworker.models.engine import Dialect, LoggedRow, Term
from django_fsmworker.models.entering import columns_entering
from django_fsmworker.models.fields import MOST_FAILURES
from django_fsmworker.models.touching import touched_sql
from django_fsmworker.store.fence import KeyColumn, fresh, lane_terms
from django_fsmworker.store.tables import Table

HELD = 2  # values that precede the key in the list that tells of a held row

# What the list has that tells what is written.
OUTCOME = ("token", "source", "target", "moved", "due", "failures")


def appended(history: str, state: str) -> str:
    """A history with one more entry; asks for a moment, in ISO format."""
    return f"json_insert(COALESCE({history}, '[]'), '$[#]', json_array({state}, %s))"


class SQLiteDialect(Dialect):
    """What the ORM has to be told about SQLite. It is one machine: its time is this one's."""

    def now(self, connection: Any) -> Term:
        return "%s", [connection.ops.adapt_datetimefield_value(clock.now())]

    def later(self, connection: Any, seconds: float) -> Term:
        moment = clock.now() + timedelta(seconds=seconds)
        return "%s", [connection.ops.adapt_datetimefield_value(moment)]

    def logged(self, connection: Any, rows: Sequence[LoggedRow]) -> Term:
        now, microsecond = clock.now(), timedelta(microseconds=1)
        listed = [
            (escaped(name), digest, source, entered and (now - entered) // microsecond)
            for name, digest, source, entered in rows
        ]
        columns = (
            f"{without_escapes('value ->> 0')} AS row_text, value ->> 1 AS digest, "
            f"value ->> 2 AS source, value ->> 3 AS duration"
        )
        return f"(SELECT {columns} FROM json_each(%s)) AS entries", [json.dumps(listed)]

    def appended(self, connection: Any, history: str, state: str) -> Term:
        return appended(history, state), [clock.now().isoformat()]


def fenced(table: Table, row: str, same_state: bool = True) -> str:
    """The condition that the table's row carries the token, and is in the state, of ``row``."""
    token = f"{table.claim} IS {row}.value ->> 0"
    return f"{token} AND {table.state} = {row}.value ->> 1" if same_state else token


def key_of(table: Table, row: str, first: int) -> str:
    """The condition that a row of the table has the key that begins at ``first`` in a JSON list."""
    terms = (f"{row}.value ->> {first + n}" for n, _ in enumerate(table.key))
    return table.key_is(_parts(table, terms))


def _key(table: Table, one: str) -> list[str]:
    """The parts of a key that is a list, or a value of its own where it has one part."""
    several = (f"{one}.value ->> {at}" for at, _ in enumerate(table.key))
    return _parts(table, several if table.is_composite else [f"{one}.value"])


def _parts(table: Table, terms: Iterable[str]) -> list[str]:
    kinds = zip(terms, table.key_types, strict=True)
    return [without_escapes(term) if is_text(kind) else term for term, kind in kinds]


# SQLite's JSON ends a text at its first NUL, which a key may have. So NUL goes in as two letters;
# the first of them, which Unicode will never use, has an escape, too.
NUL, ESCAPE = "\ufdd0n", "\ufdd0"


def escaped(part: Any) -> Any:
    """A part of a key as it goes into a JSON list."""
    if not isinstance(part, str) or part.isascii() and "\0" not in part:
        return part
    return part.replace(ESCAPE, f"{ESCAPE}e").replace("\0", NUL)


def without_escapes(text: str) -> str:
    """The SQL term for what ``escaped()`` was given."""
    return f"replace(replace({text}, '{NUL}', char(0)), '{ESCAPE}e', '{ESCAPE}')"


def is_text(kind: str) -> bool:
    """Whether a column of that type holds text of the project's."""
    return kind.startswith(("varchar", "text"))


@cache
def claim(table: Table, lanes: int, returned: str, key: KeyColumn | None = None) -> str:
    t, set_to = table, table.column
    rowid = f"{t.name}.{t.free_column('_rowid_', 'rowid', 'oid')}"
    lane = f"""
        SELECT * FROM (
            SELECT {rowid} FROM {t.name}
            WHERE {t.state} = %s{_keyed(t, key)} AND {t.next} >= %s AND {t.next} <= %s
                AND ({t.lease} IS NULL OR {t.lease} <= %s)
            ORDER BY {t.next} LIMIT %s)"""
    is_fresh = fresh(t)
    return f"""
        UPDATE {t.name} SET
            {set_to["state_failures"]} = CASE WHEN {is_fresh} THEN {t.failures}
                ELSE min({t.failures} + 1, {MOST_FAILURES}) END,
            {set_to["state_claim"]} = CASE WHEN {is_fresh} THEN %s ELSE %s END,
            {set_to["state_lease"]} = %s
        WHERE {rowid} IN ({" UNION ALL ".join([lane] * lanes)})
        RETURNING {returned}
    """


def _keyed(table: Table, key: KeyColumn | None) -> str:
    """The condition that lanes with a key add."""
    return lane_terms(table, key, "%s")


@cache
def due_keys(table: Table, column: str, first: bool) -> str:
    """The next values of a column, and whether each has due rows: one look at the index for each.

    From the value asked for on, or with ``first`` from the first one.
    """
    t = table
    rowid = t.free_column("_rowid_", "rowid", "oid")
    walked, other, key = t.alias("walked"), t.alias("other"), t.column[column]
    state, due = f"{other}.{t.column['state']}", f"{other}.{t.column['state_next']}"
    states = t.keyed_by(column).replace(t.state, state)

    def one(beyond: str) -> str:
        return f"""(
            SELECT {other}.{rowid} FROM {t.name} AS {other}
            WHERE {state} = %s{states} AND {due} IS NOT NULL AND {other}.{key} {beyond}
            ORDER BY {other}.{key}, {due} LIMIT 1)"""

    return f"""
        WITH RECURSIVE {walked} AS (
            SELECT 1 AS number, {t.qualified[column]} AS lane_key, {t.next} <= %s AS due
            FROM {t.name} WHERE {t.name}.{rowid} = {one("IS NOT NULL" if first else "> %s")}
            UNION ALL
            SELECT {walked}.number + 1, {t.qualified[column]}, {t.next} <= %s
            FROM {walked} JOIN {t.name} ON {t.name}.{rowid} = {one(f"> {walked}.lane_key")}
            WHERE {walked}.number < %s
        )
        SELECT lane_key, due FROM {walked}
    """


@cache
def peek(table: Table, position: int, key: KeyColumn | None = None) -> str:
    t = table
    return f"""
        SELECT * FROM (
            SELECT {position}, %s, {t.next} FROM {t.name}
            WHERE {t.state} = %s{_keyed(t, key)} AND {t.next} >= %s
                AND ({t.lease} IS NULL OR {t.lease} <= %s)
            ORDER BY {t.next} LIMIT 1)
    """


@cache
def settle(table: Table, returned: str) -> str:
    """
    Rows to which the same is written have it in common, in one row of the first list.

    Both lists are taken apart before the table is looked at: SQLite parses JSON anew for whatever
    is asked of it, and a list that it has not taken apart it may take apart for every row.
    """
    t = table
    row, written = t.alias("outcome"), t.alias("written")
    some, one = t.alias("some_keys"), t.alias("one_key")
    outcome = (*OUTCOME, "trace") if t.trace else OUTCOME
    parts = ", ".join(f"value ->> {at} AS {name}" for at, name in enumerate(outcome))
    named = zip(_key(t, one), t.key_parts, strict=True)
    keys = ", ".join(f"{part} AS {name}" for part, name in named)
    due = (
        f"CASE WHEN NOT {row}.moved AND {row}.failures = 0 AND {touched_sql(t.next, t.lease)} "
        f"THEN min({t.next}, {row}.due) ELSE {row}.due END"
    )
    if (ends := t.life_ends_in(f"{row}.target")) is not None:
        due = f"min(COALESCE({due}, {ends}), COALESCE({ends}, {due}))"
    changes = columns_entering(
        state=f"{row}.target",
        now="%s",
        due=lambda _: due,
        failures=f"{row}.failures",
        lease="%s",
        claim="%s",
        history=appended(t.history, f"{row}.target") if t.history else None,
        trace=f"COALESCE({row}.trace, {t.trace})" if t.trace else None,
        if_moved=lambda new, column: (
            f"CASE WHEN {row}.moved THEN {new} ELSE {t.qualified[column]} END"
        ),
    )
    return f"""
        WITH {row} AS MATERIALIZED (SELECT key AS number, {parts} FROM json_each(%s)),
        {written} AS MATERIALIZED (
            SELECT {some}.key AS number, {keys}
            FROM json_each(%s) AS {some} CROSS JOIN json_each({some}.value) AS {one})
        UPDATE {t.name} SET {t.assignments(changes)}
        FROM {written} CROSS JOIN {row} ON {row}.number = {written}.number
        WHERE {t.key_is(f"{written}.{part}" for part in t.key_parts)}
            AND {t.claim} IS {row}.token AND {t.state} = {row}.source
        RETURNING {returned}
    """
