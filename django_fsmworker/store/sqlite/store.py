"""The protocol on SQLite: one writer at a time, this machine's clock, ``UPDATE … RETURNING``.

A single statement takes the write lock at its start and waits for it as long as the connection's
``timeout`` says. Timestamps are bound in exactly Django's text format: they compare as text.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from django_fsmworker import clock
from django_fsmworker.graph import State
from django_fsmworker.graph.durations import earliest
from django_fsmworker.models.engine import Term
from django_fsmworker.models.fields import MOST_FAILURES
from django_fsmworker.models.keys import portions
from django_fsmworker.models.transition_log import logs_transitions
from django_fsmworker.store.fence import (
    Fence,
    Lane,
    Outcome,
    key_column,
    lane_value,
    new_token,
    traces_kept,
)
from django_fsmworker.store.interface import Store
from django_fsmworker.store.local_times import refused_zone
from django_fsmworker.store.sqlite import requirements, sql, values
from django_fsmworker.store.sqlite.statistics import SQLiteStatistics
from django_fsmworker.store.tables import Table, no_table, table_for

MOST_PARTS = 400  # SQLite takes 500 parts of a compound SELECT
# The modules in which Django calls the driver.
CALLS_DRIVER = frozenset({"django.db.backends.sqlite3.base", "django.db.backends.base.base"})


class SQLiteStore(Store):
    """The embedded default: every process on one machine."""

    dialect = sql.SQLiteDialect()
    check_settings = staticmethod(requirements.check_settings)
    statistics_class = SQLiteStatistics
    interruptible = False  # SQLite waits for a lock as long as ``timeout`` says

    def is_waited_for_by(self, ident: int) -> bool:
        # Such a thread stands where Django calls the driver: a wait for a lock runs no Python.
        frame = sys._current_frames().get(ident)
        return frame is not None and frame.f_globals.get("__name__") in CALLS_DRIVER

    @contextmanager
    def transaction(self, patience: float | None = None) -> Iterator[None]:
        # BEGIN IMMEDIATE: one that reads first and writes later may find itself refused.
        connection: Any = self.connection
        connection.ensure_connection()
        with ExitStack() as until_begun:
            until_begun.callback(
                setattr, connection, "transaction_mode", connection.transaction_mode
            )
            connection.transaction_mode = "IMMEDIATE"
            if patience is not None and not connection.in_atomic_block:
                raw = connection.connection
                ((usual,),) = raw.execute("PRAGMA busy_timeout").fetchall()
                until_begun.callback(raw.execute, f"PRAGMA busy_timeout = {usual}")
                raw.execute(f"PRAGMA busy_timeout = {min(usual, round(patience * 1000))}")
            with super().transaction():
                until_begun.close()
                yield

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
        found = list(refused_zone(self.connection))
        kind = "SELECT type FROM pragma_table_list WHERE name = %s AND schema <> 'temp'"
        kinds = self._fetch(kind, [table.model._meta.db_table])
        if kinds and kinds[0][0] != "table":
            found.append(no_table(model))
        if self._fetch(kept_by_key, [table.model._meta.db_table]):
            found.append(
                f"The table of {model._meta.label} is WITHOUT ROWID, which a claim goes by; make "
                f"it an ordinary one, or exclude it with --exclude {model._meta.label}."
            )
        return found

    def now(self) -> datetime:
        return clock.now()

    def claim(
        self, model: Any, lanes: Sequence[Lane], lease: float, until: datetime | None = None
    ) -> list[Any]:
        self._lost_replies.free()
        table, token, now = table_for(model, self.alias), new_token(), clock.now()
        latest, moment = self._text(min(now, until or now)), self._text(now)
        params: list[Any] = [token, token + 1, self._text(now + timedelta(seconds=lease))]
        column = key_column(lanes)
        for lane in lanes:
            since = self._text(lane.since) if lane.since else ""
            params += [lane.state, *lane_value(table, lane), since, latest, moment, lane.limit]
        with self._lost_replies.claim(model, lanes, token), self.connection.cursor() as cursor:
            statement = sql.claim(table, len(lanes), values.returned(table), column)
            cursor.execute(statement, params)
            try:
                found = values.load(table, cursor.fetchall())
            except Exception:  # the claim stands; one of its rows cannot be read
                found = table.load_claimed((token, token + 1), [lane.state for lane in lanes])
        return sorted(found, key=lambda row: row.__dict__["state_next"])

    def peek(self, lanes: Mapping[Any, Sequence[Lane]]) -> dict[tuple[Any, str], float]:
        self._lost_replies.free()
        found: dict[tuple[Any, str], float] = {}
        models, now = list(lanes), clock.now()
        parts: list[tuple[str, list[Any]]] = []
        for position, model in enumerate(models):
            table, column = table_for(model, self.alias), key_column(lanes[model])
            for lane in lanes[model]:
                since = self._text(lane.since) if lane.since else ""
                params = [lane.state, lane.state, *lane_value(table, lane), since, self._text(now)]
                parts.append((sql.peek(table, position, column), params))
        convert = self.connection.ops.convert_datetimefield_value  # type: ignore[attr-defined]
        for some in portions(parts, MOST_PARTS):
            statement = " UNION ALL ".join(part for part, _ in some)
            own = [value for _, params in some for value in params]
            for position, state, due in self._fetch(statement, own):
                moment = convert(due, None, self.connection)
                found[models[position], state] = (moment - now).total_seconds()
        return found

    def _due_keys(
        self, table: Table, state: str, column: str, after: Any, most: int
    ) -> list[tuple[Any, Any]]:
        statement, now = sql.due_keys(table, column, after is None), self._text(clock.now())
        beyond = [] if after is None else table.prepared(column, [after])
        return self._fetch(statement, [now, state, *beyond, now, state, most])

    def settle(self, model: Any, outcomes: Sequence[Outcome], worker: str = "") -> set[Any]:
        table = table_for(model, self.alias)
        params = self._outcomes(table, outcomes, lease=None, token=None)
        with self._logging(model):
            keys = table.load_keys(self._fetch(sql.settle(table, table.returned_key), params))
            self._log_settled(model, [each for each in outcomes if each.pk in keys], worker)
        return keys

    def advance(
        self, model: Any, outcomes: Sequence[Outcome], lease: float, worker: str = ""
    ) -> list[Any]:
        table, token = table_for(model, self.alias), new_token()
        params = self._outcomes(table, outcomes, lease, token)
        with self._lost_replies.advance(model, outcomes, token), self._logging(model):
            found = self._fetch(sql.settle(table, values.returned(table)), params)
            if logs_transitions(model):
                keys = table.keys_within(found)
                self._log_settled(model, [each for each in outcomes if each.pk in keys], worker)
        try:
            return values.load(table, found)
        except Exception:  # the write stands; one of its rows cannot be read
            return table.load_claimed((token,), {each.target for each in outcomes})

    def still_held(
        self, model: Any, fences: Sequence[Fence], *, same_state: bool = True
    ) -> set[Any]:
        table = table_for(model, self.alias)
        fence = table.alias("fence")
        statement = f"""
            SELECT {table.returned_key} FROM json_each(%s) AS {fence}
            JOIN {table.name} ON {sql.key_of(table, fence, sql.HELD)}
            WHERE {sql.fenced(table, fence, same_state)}
        """
        return table.load_keys(self._fetch(statement, [_fences(table, fences)]))

    def sweep(self, rows: QuerySet[Any], target: State, worker: str = "") -> set[Any]:
        # Looked at first, so that rows whose guard is false keep nobody from writing.
        return super().sweep(rows, target, worker) if rows.exists() else set()

    def _logging(self, model: Any) -> AbstractContextManager[None]:
        """A transaction, if a log is written beside the rows."""
        return self.transaction() if logs_transitions(model) else nullcontext()

    def _write_held(
        self, table: Table, fences: Sequence[Fence], changes: Term, *, same_state: bool
    ) -> set[Any]:
        assignments, params = changes
        fence = table.alias("fence")
        statement = f"""
            UPDATE {table.name} SET {assignments}
            FROM json_each(%s) AS {fence}
            WHERE {sql.key_of(table, fence, sql.HELD)}
                AND {sql.fenced(table, fence, same_state)}
            RETURNING {table.returned_key}
        """
        return table.load_keys(self._fetch(statement, [*params, _fences(table, fences)]))

    def _outcomes(
        self, table: Table, outcomes: Sequence[Outcome], lease: float | None, token: int | None
    ) -> list[Any]:
        now, text = clock.now(), self._text
        if table.is_composite:
            keys: list[Any] = [
                [*map(sql.escaped, key)] for key in table.prepare_keys(each.pk for each in outcomes)
            ]
        else:
            (prepared,) = table.key_arrays(each.pk for each in outcomes)
            keys = [sql.escaped(key) for key in prepared]
        # Most rows of a batch get the same.
        alike: dict[tuple[Any, ...], list[Any]] = {}
        traces = traces_kept(outcomes) if table.trace else None
        for at, (key, each) in enumerate(zip(keys, outcomes, strict=True)):
            due, failures = _due(each, now), min(each.failures, MOST_FAILURES)
            given: tuple[Any, ...]
            given = each.token, each.source, each.target, each.moved, due and text(due), failures
            if traces is not None:
                given += (traces[at],)
            alike.setdefault(given, []).append(key)
        end = None if lease is None else now + timedelta(seconds=lease)
        history = [now.isoformat()] if table.history else []
        lists = json.dumps(list(alike)), json.dumps(list(alike.values()), default=str)
        return [*lists, *history, text(now), text(end), token]

    def _text(self, moment: datetime | None) -> str | None:
        text: str | None = self.connection.ops.adapt_datetimefield_value(moment)
        return text


def _due(outcome: Outcome, now: datetime) -> datetime | None:
    if outcome.delay is None and outcome.timeout is None:
        return None
    entered = now if outcome.moved else outcome.row.state_changed
    timeout = None if outcome.timeout is None else outcome.timeout + (entered - now).total_seconds()
    seconds = earliest(outcome.delay, timeout)
    return None if seconds is None else now + timedelta(seconds=seconds)


def _fences(table: Table, fences: Sequence[Fence]) -> str:
    keys = table.prepare_keys(fence.pk for fence in fences)
    return json.dumps(
        [
            [fence.token, fence.state, *map(sql.escaped, key)]
            for key, fence in zip(keys, fences, strict=True)
        ],
        default=str,
    )
