"""The protocol on PostgreSQL: each method is one autocommit statement at READ COMMITTED."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import Error
from django.db.models import QuerySet

from django_fsmworker.graph import State
from django_fsmworker.models.engine import Term
from django_fsmworker.models.event import Event
from django_fsmworker.models.fields import MOST_FAILURES
from django_fsmworker.models.keys import declaring_model, log_digest, row_key
from django_fsmworker.models.transition_log import LONGEST_NAME, logs_transitions
from django_fsmworker.store.fence import (
    Fence,
    Lane,
    Outcome,
    key_column,
    new_token,
    traces_kept,
)
from django_fsmworker.store.interface import Store
from django_fsmworker.store.postgresql import requirements, sql
from django_fsmworker.store.postgresql.driver import (
    KeptPlan,
    array,
    can_prepare,
    key_array,
    load_plainly,
    preparing_cursor,
    text_array,
)
from django_fsmworker.store.postgresql.errors import STALE_PLAN, name_of
from django_fsmworker.store.postgresql.permits import PostgreSQLPermits
from django_fsmworker.store.postgresql.statistics import PostgreSQLStatistics
from django_fsmworker.store.tables import Table, no_table, table_for
from django_fsmworker.store.transition_log import attempt_of, reason_of


class PostgreSQLStore(Store):
    """One small statement per batch, whatever the table's size."""

    dialect = sql.PostgreSQLDialect()
    check_settings = staticmethod(requirements.check_settings)
    statistics_class = PostgreSQLStatistics
    permits_class = PostgreSQLPermits

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._plans: defaultdict[Any, KeptPlan] = defaultdict(KeptPlan)

    def _has_other_isolation(self) -> bool:
        return self.connection.settings_dict["OPTIONS"].get("isolation_level") is not None

    def shortcomings(self) -> list[str]:
        ((isolation,),) = self._fetch("SHOW default_transaction_isolation", [])
        if isolation == "read committed":
            return []
        return [
            f"The database {self.alias!r} runs every statement at {isolation.upper()}: claims and "
            f"writes will be refused and tried again whenever two runners meet. Set "
            f"default_transaction_isolation to 'read committed' for the runner's database role."
        ]

    @property
    def switches_schemas(self) -> bool:
        return hasattr(self.connection, "set_schema") and hasattr(self.connection, "schema_name")

    def own_statement_limit(self) -> float | None:
        # What begins a session would take the place of what is set for a role.
        sql = "SELECT setting FROM pg_settings WHERE name = 'statement_timeout'"
        ((milliseconds,),) = self._fetch(sql, [])
        return int(milliseconds) / 1000 or None

    def refusals(self, model: Any) -> list[str]:
        # Rows are updated by their row id, which is unique within one table only.
        table = table_for(model, self.alias)
        kinds = self._fetch(
            "SELECT relkind FROM pg_class WHERE oid = to_regclass(%s)", [table.name]
        )
        if kinds and kinds[0][0] not in ("r", "p"):
            return [no_table(model)]
        parts = "SELECT 1 FROM pg_inherits WHERE inhparent = to_regclass(%s)"
        ((divided,),) = self._fetch(f"SELECT EXISTS ({parts})", [table.name])
        if not divided:
            return []
        return [
            f"The table of {model._meta.label} is partitioned or has other tables inherit from it, "
            f"which cannot be claimed yet; exclude it with --exclude {model._meta.label}."
        ]

    def now(self) -> datetime:
        with self.connection.cursor() as cursor:
            cursor.execute(f"SELECT {sql.database_now()}")
            moment: datetime = cursor.fetchone()[0]
            return moment

    def claim(
        self, model: Any, lanes: Sequence[Lane], lease: float, until: datetime | None = None
    ) -> list[Any]:
        self._lost_replies.free()
        table, token = table_for(model, self.alias), new_token()
        hurried = not self.connection.in_atomic_block
        statement = sql.claim(table, sql.database_now(), hurried, key_column(lanes))
        params = [
            *_lanes(lanes),
            *_keys(table, lanes),
            _moment(until, "infinity"),
            token,
            token + 1,
            lease,
        ]
        plan, began = self._plans[model], time.monotonic()
        kept = plan if hurried and self.session_lasts() and plan.suits(lanes) else None
        with (
            self._lost_replies.claim(model, lanes, token),
            self._executed(statement, params, kept) as cursor,
        ):
            seconds = time.monotonic() - began
            try:
                rows = table.load(cursor.fetchall())
            except Exception:  # the claim stands; one of its rows cannot be read
                rows = table.load_claimed((token, token + 1), {lane.state for lane in lanes})
        plan.took(seconds, len(rows))
        return sorted(rows, key=lambda row: row.__dict__["state_next"])

    def peek(self, lanes: Mapping[Any, Sequence[Lane]]) -> dict[tuple[Any, str], float]:
        self._lost_replies.free()
        models, parts, params = list(lanes), [], []
        for position, model in enumerate(models):
            states, marks, _ = _lanes(lanes[model])
            table, key = table_for(model, self.alias), key_column(lanes[model])
            parts.append(sql.peek(table, position, sql.database_now(), key))
            params += [states, marks, *_keys(table, lanes[model])]
        rows = self._fetch(" UNION ALL ".join(parts), params)
        return {(models[position], state): due for position, state, due in rows}

    def _due_keys(
        self, table: Table, state: str, column: str, after: Any, most: int
    ) -> list[tuple[Any, Any]]:
        statement = sql.due_keys(table, state, column, sql.database_now(), after is None)
        beyond = [] if after is None else table.prepared(column, [after])
        return self._fetch(statement, [*beyond, most])

    def settle(self, model: Any, outcomes: Sequence[Outcome], worker: str = "") -> set[Any]:
        table = table_for(model, self.alias)
        logged = table.logs_transitions
        statement = sql.settle(table, sql.database_now(), "NULL", "NULL", table.key_columns, logged)
        params = _outcomes(table, outcomes)
        if logged:
            params += [*_entries(outcomes), *_of_all(model, worker)]
        return table.load_keys(self._fetch(statement, params))

    def advance(
        self, model: Any, outcomes: Sequence[Outcome], lease: float, worker: str = ""
    ) -> list[Any]:
        table, token = table_for(model, self.alias), new_token()
        logged = table.logs_transitions
        end, ends = self.dialect.later(self.connection, lease)
        statement = sql.settle(table, sql.database_now(), end, "%s", table.all_columns, logged)
        params = _outcomes(table, outcomes)
        if logged:
            params += _entries(outcomes)
        params += [*ends, token]
        if logged:
            params += _of_all(model, worker)
        with (
            self._lost_replies.advance(model, outcomes, token),
            self._executed(statement, params) as cursor,
        ):
            try:
                return table.load(cursor.fetchall())
            except Exception:  # the write stands; one of its rows cannot be read
                return table.load_claimed((token,), {each.target for each in outcomes})

    def still_held(
        self, model: Any, fences: Sequence[Fence], *, same_state: bool = True
    ) -> set[Any]:
        table = table_for(model, self.alias)
        row, fence = table.alias("row"), table.alias("fence")
        statement = f"""
            SELECT {row}.*
            FROM {sql.fences(table)}
            CROSS JOIN LATERAL (
                SELECT {table.returned_key} FROM {table.name}
                WHERE {sql.key_of(table, fence)} AND {sql.fenced(table, fence, same_state)}
                LIMIT 1) AS {row}
        """
        return table.load_keys(self._fetch(statement, _fences(table, fences)))

    def _executed(self, statement: str, params: list[Any], plan: KeptPlan | None = None) -> Any:
        """A cursor that has executed ``sql``, by the kept plan if there is one."""
        if plan is not None and can_prepare(self.connection):
            try:
                return self._run(
                    preparing_cursor(self.connection), plan.versioned(statement), params
                )
            except Error as error:
                if name_of(error) not in STALE_PLAN:
                    raise
                plan.drop()
        return self._run(self.connection.cursor(), statement, params)

    def _run(self, cursor: Any, statement: str, params: list[Any]) -> Any:
        load_plainly(self.connection, cursor)
        cursor.execute(statement, params)
        return cursor

    def key_at(self, rows: QuerySet[Any], position: int) -> Any:
        # In a subquery the position is hidden from the planner. Otherwise, before it has statistics
        # of the table, it expects less rows than that and sorts all there are.
        model: Any = rows.model
        keys = rows.order_by("pk").values_list("pk")
        statement, params = keys.query.get_compiler(self.alias).as_sql()
        found = self._fetch(f"{statement} LIMIT 1 OFFSET (SELECT %s)", [*params, position])
        return next(iter(table_for(model, self.alias).load_keys(found)), None)

    # An event is to reach its row soon: the ORM takes longer to put these two together than the
    # server to answer them.

    def locked_rows(self, model: Any, keys: Collection[Any]) -> tuple[list[Any], datetime | None]:
        table = table_for(model, self.alias)
        statement = sql.lock_rows(table, sql.database_now(), len(keys))
        parts = [part for key in table.prepare_keys(keys) for part in key]
        rows = self._fetch_plainly(statement, parts)
        return table.load_plain([row[1:] for row in rows]), max(
            (row[0] for row in rows), default=None
        )

    def fired_events(
        self, label: str, hashes: Collection[int], now: datetime, most: int
    ) -> list[Event]:
        table = table_for(Event, self.alias)
        statement = sql.fired_events(table, len(hashes))
        return table.load_plain(self._fetch_plainly(statement, [label, *hashes, now, most]))

    def _fetch_plainly(self, statement: str, params: list[Any]) -> list[Any]:
        with self._run(self.connection.cursor(), statement, params) as cursor:
            rows: list[Any] = cursor.fetchall()
            return rows

    def sweep(self, rows: QuerySet[Any], target: State, worker: str = "") -> set[Any]:
        model: Any = rows.model
        if logs_transitions(model):
            return super().sweep(rows, target, worker)
        table = table_for(model, self.alias)
        statement = sql.sweep(table, rows, target, sql.database_now())
        return set() if statement is None else table.load_keys(self._fetch(*statement))

    def _write_held(
        self, table: Table, fences: Sequence[Fence], changes: Term, *, same_state: bool
    ) -> set[Any]:
        assignments, params = changes
        held, row, fence = map(table.alias, ("held", "row", "fence"))
        statement = f"""
            WITH {held} AS MATERIALIZED (
                SELECT {row}.id
                FROM (SELECT * FROM {sql.fences(table)} ORDER BY {sql.order_of(table)}) AS {fence}
                CROSS JOIN LATERAL (
                    SELECT ctid AS id FROM {table.name}
                    WHERE {sql.key_of(table, fence)} AND {sql.fenced(table, fence, same_state)}
                    FOR NO KEY UPDATE SKIP LOCKED) AS {row}
            )
            UPDATE {table.name} SET {assignments}
            WHERE ctid = ANY (ARRAY (SELECT id FROM {held}))
            RETURNING {table.returned_key}
        """
        return table.load_keys(self._fetch(statement, [*_fences(table, fences), *params]))


def _moment(moment: datetime | None, otherwise: str) -> str:
    return otherwise if moment is None else moment.isoformat()


def _lanes(lanes: Sequence[Lane]) -> tuple[str, str, str]:
    return (
        array([lane.state for lane in lanes]),
        array([_moment(lane.since, "-infinity") for lane in lanes]),
        array([lane.limit for lane in lanes]),
    )


def _keys(table: Table, lanes: Sequence[Lane]) -> list[list[Any]]:
    """The values of the lanes' keys, one array; none where they have no keys."""
    key = key_column(lanes)
    if key is None or key.is_null:
        return []
    return [table.prepared(key.name, [lane.key[1] for lane in lanes if lane.key is not None])]


def _fences(table: Table, fences: Sequence[Fence]) -> list[Any]:
    return [
        *map(key_array, table.key_arrays([fence.pk for fence in fences])),
        array([fence.token for fence in fences]),
        array([fence.state for fence in fences]),
    ]


def _entries(outcomes: Sequence[Outcome]) -> list[str]:
    """What the transition log keeps of each; of those that stay it is not asked for."""
    rows = [row_key(each.pk) if each.moved else "" for each in outcomes]
    return [
        text_array(rows),
        array(log_digest(row) for row in rows),
        array(each.cause for each in outcomes),
        text_array([reason_of(each) for each in outcomes]),
        array(attempt_of(each) for each in outcomes),
    ]


def _of_all(model: Any, worker: str) -> list[str]:
    return [declaring_model(model)._meta.label, worker[:LONGEST_NAME]]


def _outcomes(table: Table, outcomes: Sequence[Outcome]) -> list[Any]:
    return [
        *map(key_array, table.key_arrays([each.pk for each in outcomes])),
        array([each.token for each in outcomes]),
        array([each.source for each in outcomes]),
        array([each.target for each in outcomes]),
        array([each.moved for each in outcomes]),
        array([each.delay for each in outcomes]),
        array([each.timeout for each in outcomes]),
        array([min(each.failures, MOST_FAILURES) for each in outcomes]),
        *([array(traces_kept(outcomes))] if table.trace else []),
    ]
