"""The protocol on SQLite: one writer at a time, this machine's clock, ``UPDATE … RETURNING``.

A single statement takes the write lock at its start and waits for it as long as the connection's
``timeout`` says. Timestamps are bound in exactly Django's text format: they compare as text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from django_fsmworker import clock
from django_fsmworker.graph import State
from django_fsmworker.graph.durations import earliest
from django_fsmworker.models.fields import MOST_FAILURES
from django_fsmworker.store.claims import Hold, Lane, new_token
from django_fsmworker.store.interface import Store
from django_fsmworker.store.outcomes import Outcome
from django_fsmworker.store.tables import Table, table_for

AT_LEAST = (3, 38)
MOST_PARTS, PARAMS_PER_PART = 400, 4  # SQLite takes 500 parts of a compound SELECT

# How many values precede the key in the list that tells of a held row, and of a settled one.
HELD, SETTLED = 2, 6


class SQLiteStore(Store):
    """The embedded default: every process on one machine."""

    interruptible = False  # SQLite waits for a lock as long as ``timeout`` says

    def transaction(self) -> AbstractContextManager[None]:
        return _immediately(self.connection, self.alias)

    def shortcomings(self) -> list[str]:
        ((mode,),) = self._fetch("PRAGMA journal_mode", [])
        if mode in ("wal", "memory"):
            return []
        return [
            f"The SQLite database {self.alias!r} has journal_mode={mode}: readers and writer "
            f"wait for each other. Add 'init_command': 'PRAGMA journal_mode=WAL' to its OPTIONS."
        ]

    def refusals(self, model: Any) -> list[str]:
        table = table_for(model, self.alias)
        kept_by_key = "SELECT 1 FROM pragma_table_list WHERE name = %s AND wr"
        if not self._fetch(kept_by_key, [table.model._meta.db_table]):
            return []
        return [
            f"The table of {model._meta.label} is WITHOUT ROWID, which a claim goes by; make it an "
            f"ordinary one, or exclude it with --exclude {model._meta.label}."
        ]

    def now(self) -> datetime:
        return clock.now()

    def claim(
        self, model: Any, lanes: Sequence[Lane], lease: float, until: datetime | None = None
    ) -> list[Any]:
        self._unanswered.free()
        table, token, now = table_for(model, self.alias), new_token(), clock.now()
        latest, moment = self._text(min(now, until or now)), self._text(now)
        params: list[Any] = [token, token + 1, self._text(now + timedelta(seconds=lease))]
        for lane in lanes:
            since = self._text(lane.since) if lane.since else ""
            params += [lane.state, since, latest, moment, lane.limit]
        with self._unanswered.claim(model, lanes, token), self.connection.cursor() as cursor:
            cursor.execute(_claim_sql(table, len(lanes)), params)
            try:
                rows = table.load(cursor.fetchall())
            except Exception:  # the claim stands; one of its rows cannot be read
                rows = table.load_claimed((token, token + 1), [lane.state for lane in lanes])
        return sorted(rows, key=lambda row: row.__dict__["state_next"])

    def peek(self, lanes: Mapping[Any, Sequence[Lane]]) -> dict[tuple[Any, str], float]:
        self._unanswered.free()
        found: dict[tuple[Any, str], float] = {}
        models, now, params = list(lanes), clock.now(), []
        parts = []
        for position, model in enumerate(models):
            for lane in lanes[model]:
                since = self._text(lane.since) if lane.since else ""
                parts.append(_peek_sql(table_for(model, self.alias), position))
                params += [lane.state, lane.state, since, self._text(now)]
        convert = self.connection.ops.convert_datetimefield_value  # type: ignore[attr-defined]
        for start in range(0, len(parts), MOST_PARTS):
            some = parts[start : start + MOST_PARTS]
            own = params[start * PARAMS_PER_PART : (start + MOST_PARTS) * PARAMS_PER_PART]
            for position, state, due in self._fetch(" UNION ALL ".join(some), own):
                moment = convert(due, None, self.connection)
                found[models[position], state] = (moment - now).total_seconds()
        return found

    def settle(self, model: Any, outcomes: Sequence[Outcome]) -> set[Any]:
        table = table_for(model, self.alias)
        params = self._outcomes(table, outcomes, lease=None, token=None)
        return table.load_keys(self._fetch(_settle_sql(table, table.returned_key), params))

    def advance(self, model: Any, outcomes: Sequence[Outcome], lease: float) -> list[Any]:
        table, token = table_for(model, self.alias), new_token()
        params = self._outcomes(table, outcomes, lease, token)
        with self._unanswered.advance(model, outcomes, token), self.connection.cursor() as cursor:
            cursor.execute(_settle_sql(table, table.whole_row), params)
            try:
                return table.load(cursor.fetchall())
            except Exception:  # the write stands; one of its rows cannot be read
                return table.load_claimed((token,), {each.target for each in outcomes})

    def renew(self, model: Any, holds: Sequence[Hold], lease: float) -> set[Any]:
        table = table_for(model, self.alias)
        end = self._text(clock.now() + timedelta(seconds=lease))
        changes = f"{table.lease} = %s, {table.next} = %s"
        same_state = f"AND {table.name}.{table.state} = hold.value ->> 1"
        return self._write_held(table, holds, changes, [end, end], same_state)

    def hand_back(self, model: Any, holds: Sequence[Hold]) -> set[Any]:
        # A suspect keeps a lease in the past: whoever claims it takes it over once more, which
        # counts the failure that is taken back here.
        table, now = table_for(model, self.alias), self._text(clock.now())
        suspect = f"{table.claim} %% 2 = 1"
        changes = f"""
            {table.failures} = CASE WHEN {suspect}
                THEN max({table.failures} - 1, 0) ELSE {table.failures} END,
            {table.lease} = CASE WHEN {suspect} THEN %s ELSE NULL END,
            {table.next} = min({table.next}, %s),
            {table.claim} = NULL"""
        return self._write_held(table, holds, changes, [now, now])

    def still_held(self, model: Any, holds: Sequence[Hold]) -> set[Any]:
        table = table_for(model, self.alias)
        sql = f"""
            SELECT {table.returned_key} FROM json_each(%s) AS hold
            JOIN {table.name} ON {_key_of(table, "hold", HELD)}
            WHERE {table.name}.{table.claim} IS hold.value ->> 0
                AND {table.name}.{table.state} = hold.value ->> 1
        """
        return table.load_keys(self._fetch(sql, [_holds(table, holds)]))

    def sweep(self, rows: QuerySet[Any], target: State) -> set[Any]:
        # Looked at first, so that rows whose guard is false keep nobody from writing.
        return super().sweep(rows, target) if rows.exists() else set()

    def _write_held(
        self,
        table: Table,
        holds: Sequence[Hold],
        changes: str,
        params: list[Any],
        condition: str = "",
    ) -> set[Any]:
        sql = f"""
            UPDATE {table.name} SET {changes}
            FROM json_each(%s) AS hold
            WHERE {_key_of(table, "hold", HELD)}
                AND {table.name}.{table.claim} = hold.value ->> 0 {condition}
            RETURNING {table.returned_key}
        """
        return table.load_keys(self._fetch(sql, [*params, _holds(table, holds)]))

    def _outcomes(
        self, table: Table, outcomes: Sequence[Outcome], lease: float | None, token: int | None
    ) -> list[Any]:
        now = clock.now()
        keys = table.prepare_keys(each.pk for each in outcomes)
        written = [
            [
                each.source,
                each.token,
                each.target,
                each.moved,
                self._text(_due(each, now)),
                min(each.failures, MOST_FAILURES),
                *key,
            ]
            for key, each in zip(keys, outcomes, strict=True)
        ]
        end = None if lease is None else now + timedelta(seconds=lease)
        history = [now.isoformat()] if table.history else []
        return [
            *history,
            self._text(now),
            self._text(end),
            token,
            json.dumps(written, default=str),
        ]

    def _text(self, moment: datetime | None) -> str | None:
        text: str | None = self.connection.ops.adapt_datetimefield_value(moment)
        return text


@contextmanager
def _immediately(connection: Any, alias: str) -> Iterator[None]:
    """BEGIN IMMEDIATE: a transaction that reads first and writes later may find itself refused."""
    connection.ensure_connection()
    mode = connection.transaction_mode
    connection.transaction_mode = "IMMEDIATE"
    try:
        with transaction.atomic(using=alias):
            connection.transaction_mode = mode
            yield
    finally:
        connection.transaction_mode = mode


def _due(outcome: Outcome, now: datetime) -> datetime | None:
    entered = now if outcome.moved else outcome.row.state_changed
    timeout = None if outcome.timeout is None else outcome.timeout + (entered - now).total_seconds()
    seconds = earliest(outcome.delay, timeout)
    return None if seconds is None else now + timedelta(seconds=seconds)


def _holds(table: Table, holds: Sequence[Hold]) -> str:
    keys = table.prepare_keys(hold.pk for hold in holds)
    return json.dumps(
        [[hold.token, hold.state, *key] for key, hold in zip(keys, holds, strict=True)], default=str
    )


def _key_of(table: Table, row: str, first: int) -> str:
    """The condition that a row of the table has the key that begins at ``first`` in a JSON list."""
    return table.key_is(f"{row}.value ->> {first + n}" for n, _ in enumerate(table.key))


@cache
def _claim_sql(table: Table, lanes: int) -> str:
    t = table
    lane = f"""
        SELECT * FROM (
            SELECT _rowid_ FROM {t.name}
            WHERE {t.state} = %s AND {t.next} >= %s AND {t.next} <= %s
                AND ({t.lease} IS NULL OR {t.lease} <= %s)
            ORDER BY {t.next} LIMIT %s)"""
    return f"""
        UPDATE {t.name} SET
            {t.claim} = CASE WHEN {t.lease} IS NULL THEN %s ELSE %s END,
            {t.failures} = CASE WHEN {t.lease} IS NULL THEN {t.failures}
                ELSE min({t.failures} + 1, {MOST_FAILURES}) END,
            {t.lease} = %s
        WHERE _rowid_ IN ({" UNION ALL ".join([lane] * lanes)})
        RETURNING {t.whole_row}
    """


@cache
def _peek_sql(table: Table, position: int) -> str:
    t = table
    return f"""
        SELECT * FROM (
            SELECT {position}, %s, {t.next} FROM {t.name}
            WHERE {t.state} = %s AND {t.next} >= %s
                AND ({t.lease} IS NULL OR {t.lease} <= %s)
            ORDER BY {t.next} LIMIT 1)
    """


@cache
def _settle_sql(table: Table, returned: str) -> str:
    t = table
    history = f"""
            {t.history} = CASE WHEN outcome.value ->> 3
                THEN json_insert(COALESCE({t.history}, '[]'), '$[#]',
                    json_array(outcome.value ->> 2, %s))
                ELSE {t.history} END,"""
    return f"""
        UPDATE {t.name} SET{history if t.history else ""}
            {t.state} = outcome.value ->> 2,
            {t.changed} = CASE WHEN outcome.value ->> 3 THEN %s ELSE {t.changed} END,
            {t.next} = outcome.value ->> 4,
            {t.failures} = outcome.value ->> 5,
            {t.lease} = %s,
            {t.claim} = %s
        FROM json_each(%s) AS outcome
        WHERE {_key_of(t, "outcome", SETTLED)}
            AND {t.name}.{t.state} = outcome.value ->> 0
            AND {t.name}.{t.claim} IS outcome.value ->> 1
        RETURNING {returned}
    """
