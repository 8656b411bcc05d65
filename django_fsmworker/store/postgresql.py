"""The protocol on PostgreSQL: each method is one autocommit statement at READ COMMITTED."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any

from django.db import Error, transaction
from django.db.models import QuerySet

from django_fsmworker.graph import State
from django_fsmworker.models.fields import MOST_FAILURES
from django_fsmworker.store.claims import Hold, Lane, new_token
from django_fsmworker.store.errors import sqlstate
from django_fsmworker.store.interface import Store
from django_fsmworker.store.outcomes import Outcome
from django_fsmworker.store.postgresql_arrays import array
from django_fsmworker.store.postgresql_prepared import (
    STALE,
    KeptPlan,
    can_prepare,
    preparing_cursor,
)
from django_fsmworker.store.postgresql_sql import (
    claim_sql,
    database_now,
    holds_sql,
    key_of,
    order_of,
    peek_sql,
    settle_sql,
)
from django_fsmworker.store.postgresql_sweep import sweep_statement
from django_fsmworker.store.postgresql_times import load_plainly
from django_fsmworker.store.tables import Table, table_for


class PostgreSQLStore(Store):
    """One small statement per batch, whatever the table's size."""

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._plans: defaultdict[Any, KeptPlan] = defaultdict(KeptPlan)

    def transaction(self) -> AbstractContextManager[None]:
        return _read_committed(self.connection, self.alias)

    def shortcomings(self) -> list[str]:
        ((isolation,),) = self._fetch("SHOW default_transaction_isolation", [])
        if isolation == "read committed":
            return []
        return [
            f"The database {self.alias!r} runs every statement at {isolation.upper()}: claims and "
            f"writes will be refused and tried again whenever two runners meet. Set "
            f"default_transaction_isolation to 'read committed' for the runner's database role."
        ]

    def refusals(self, model: Any) -> list[str]:
        # Rows are updated by their row id, which is unique within one table only.
        table = table_for(model, self.alias)
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
            cursor.execute(f"SELECT {database_now()}")
            moment: datetime = cursor.fetchone()[0]
            return moment

    def claim(
        self, model: Any, lanes: Sequence[Lane], lease: float, until: datetime | None = None
    ) -> list[Any]:
        self._unanswered.free()
        table, token = table_for(model, self.alias), new_token()
        states, marks, limits = _lanes(lanes)
        hurried = not self.connection.in_atomic_block
        sql = claim_sql(table, database_now(), hurried)
        params = [states, marks, limits, _moment(until, "infinity"), token, token + 1, lease]
        plan, began = self._plans[model], time.monotonic()
        kept = plan if hurried and self.session_lasts() and plan.suits(lanes) else None
        with (
            self._unanswered.claim(model, lanes, token),
            self._executed(sql, params, kept) as cursor,
        ):
            seconds = time.monotonic() - began
            try:
                rows = table.load(cursor.fetchall())
            except Exception:  # the claim stands; one of its rows cannot be read
                rows = table.load_claimed((token, token + 1), states)
        plan.took(seconds, len(rows))
        return sorted(rows, key=lambda row: row.__dict__["state_next"])

    def peek(self, lanes: Mapping[Any, Sequence[Lane]]) -> dict[tuple[Any, str], float]:
        self._unanswered.free()
        models, parts, params = list(lanes), [], []
        for position, model in enumerate(models):
            states, marks, _ = _lanes(lanes[model])
            parts.append(peek_sql(table_for(model, self.alias), position, database_now()))
            params += [states, marks]
        rows = self._fetch(" UNION ALL ".join(parts), params)
        return {(models[position], state): due for position, state, due in rows}

    def settle(self, model: Any, outcomes: Sequence[Outcome]) -> set[Any]:
        table = table_for(model, self.alias)
        sql = settle_sql(table, database_now(), "NULL", "NULL", table.returned_key)
        return table.load_keys(self._fetch(sql, _outcomes(table, outcomes)))

    def advance(self, model: Any, outcomes: Sequence[Outcome], lease: float) -> list[Any]:
        table, token, now = table_for(model, self.alias), new_token(), database_now()
        sql = settle_sql(table, now, f"{now} + %s * interval '1 second'", "%s", table.whole_row)
        params = [*_outcomes(table, outcomes), lease, token]
        with (
            self._unanswered.advance(model, outcomes, token),
            self._executed(sql, params) as cursor,
        ):
            try:
                return table.load(cursor.fetchall())
            except Exception:  # the write stands; one of its rows cannot be read
                return table.load_claimed((token,), {each.target for each in outcomes})

    def renew(self, model: Any, holds: Sequence[Hold], lease: float) -> set[Any]:
        table, now = table_for(model, self.alias), database_now()
        end = f"{now} + %s * interval '1 second'"
        changes = f"{table.lease} = {end}, {table.next} = {end}"
        same_state = f"AND {table.state} = hold.state"
        return self._write_held(table, holds, changes, [lease, lease], same_state)

    def hand_back(self, model: Any, holds: Sequence[Hold]) -> set[Any]:
        # A suspect keeps a lease in the past: whoever claims it takes it over once more, which
        # counts the failure that is taken back here.
        table, now = table_for(model, self.alias), database_now()
        suspect = f"{table.claim} %% 2 = 1"
        changes = f"""
            {table.failures} = CASE WHEN {suspect}
                THEN GREATEST({table.failures} - 1, 0) ELSE {table.failures} END,
            {table.lease} = CASE WHEN {suspect} THEN {now} ELSE NULL END,
            {table.next} = LEAST({table.next}, {now}),
            {table.claim} = NULL"""
        return self._write_held(table, holds, changes, [])

    def still_held(self, model: Any, holds: Sequence[Hold]) -> set[Any]:
        table = table_for(model, self.alias)
        sql = f"""
            SELECT row.*
            FROM {holds_sql(table)}
            CROSS JOIN LATERAL (
                SELECT {table.returned_key} FROM {table.name}
                WHERE {key_of(table, "hold")}
                    AND {table.state} = hold.state
                    AND {table.claim} IS NOT DISTINCT FROM hold.token
                LIMIT 1) AS row
        """
        return table.load_keys(self._fetch(sql, _holds(table, holds)))

    def _executed(self, sql: str, params: list[Any], plan: KeptPlan | None = None) -> Any:
        """A cursor that has executed ``sql``, by the kept plan if there is one."""
        if plan is not None and can_prepare(self.connection):
            try:
                return self._run(preparing_cursor(self.connection), plan.versioned(sql), params)
            except Error as error:
                if sqlstate(error) not in STALE:
                    raise
                plan.drop()
        return self._run(self.connection.cursor(), sql, params)

    def _run(self, cursor: Any, sql: str, params: list[Any]) -> Any:
        load_plainly(self.connection, cursor)
        cursor.execute(sql, params)
        return cursor

    def key_at(self, rows: QuerySet[Any], position: int) -> Any:
        # In a subquery the position is hidden from the planner. Otherwise, before it has statistics
        # of the table, it expects less rows than that and sorts all there are.
        model: Any = rows.model
        keys = rows.order_by("pk").values_list("pk")
        sql, params = keys.query.get_compiler(self.alias).as_sql()
        found = self._fetch(f"{sql} LIMIT 1 OFFSET (SELECT %s)", [*params, position])
        return next(iter(table_for(model, self.alias).load_keys(found)), None)

    def sweep(self, rows: QuerySet[Any], target: State) -> set[Any]:
        model: Any = rows.model
        table = table_for(model, self.alias)
        statement = sweep_statement(table, rows, target, database_now())
        return set() if statement is None else table.load_keys(self._fetch(*statement))

    def _write_held(
        self,
        table: Table,
        holds: Sequence[Hold],
        changes: str,
        params: list[Any],
        condition: str = "",
    ) -> set[Any]:
        """Apply ``changes`` to the rows that still carry their token and that nobody has locked."""
        sql = f"""
            WITH held AS MATERIALIZED (
                SELECT row.id
                FROM (SELECT * FROM {holds_sql(table)} ORDER BY {order_of(table)}) AS hold
                CROSS JOIN LATERAL (
                    SELECT ctid AS id FROM {table.name}
                    WHERE {key_of(table, "hold")} AND {table.claim} = hold.token {condition}
                    FOR NO KEY UPDATE SKIP LOCKED) AS row
            )
            UPDATE {table.name} SET {changes}
            WHERE ctid = ANY (ARRAY (SELECT id FROM held))
            RETURNING {table.returned_key}
        """
        return table.load_keys(self._fetch(sql, [*_holds(table, holds), *params]))


def _moment(moment: datetime | None, otherwise: str) -> str:
    return otherwise if moment is None else moment.isoformat()


def _lanes(lanes: Sequence[Lane]) -> tuple[list[str], list[str], list[int]]:
    return (
        [lane.state for lane in lanes],
        [_moment(lane.since, "-infinity") for lane in lanes],
        [lane.limit for lane in lanes],
    )


def _holds(table: Table, holds: Sequence[Hold]) -> list[Any]:
    return [
        *table.key_arrays(hold.pk for hold in holds),
        array(hold.token for hold in holds),
        array(hold.state for hold in holds),
    ]


@contextmanager
def _read_committed(connection: Any, alias: str) -> Iterator[None]:
    """A transaction at READ COMMITTED, whatever level the project's own ones have."""
    outermost = not connection.in_atomic_block
    with transaction.atomic(using=alias):
        if outermost and connection.settings_dict["OPTIONS"].get("isolation_level") is not None:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        yield


def _outcomes(table: Table, outcomes: Sequence[Outcome]) -> list[Any]:
    return [
        *table.key_arrays(each.pk for each in outcomes),
        array(each.source for each in outcomes),
        array(each.token for each in outcomes),
        array(each.target for each in outcomes),
        array(each.moved for each in outcomes),
        array(each.delay for each in outcomes),
        array(each.timeout for each in outcomes),
        array(min(each.failures, MOST_FAILURES) for each in outcomes),
    ]
