"""The protocol on MariaDB and MySQL: lock, then update by key, in one transaction.

There is no ``UPDATE … RETURNING``, and an UPDATE waits for locked rows. So rows are locked first,
with SKIP LOCKED, and what the fence asks for is compared here: exactly, whatever the collation of a
column takes for equal. Transactions are READ COMMITTED; at REPEATABLE READ a locking read locks the
gaps between rows, too.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import Error
from django.db.models import QuerySet

from django_fsmworker.graph import State, Transition
from django_fsmworker.models.engine import Term
from django_fsmworker.models.entering import entering
from django_fsmworker.models.keys import declaring_model, key_name, portions, with_keys
from django_fsmworker.models.locking import moments
from django_fsmworker.models.transition_log import logs_transitions
from django_fsmworker.store.fence import Fence, Lane, Outcome, key_column, lane_value, new_token
from django_fsmworker.store.guards import first_true_one_by_one
from django_fsmworker.store.interface import READ_COMMITTED, Store
from django_fsmworker.store.mysql import requirements, sql
from django_fsmworker.store.mysql.due import Due, take
from django_fsmworker.store.mysql.fences import held
from django_fsmworker.store.mysql.sql import Key
from django_fsmworker.store.mysql.statistics import MySQLStatistics
from django_fsmworker.store.tables import Table, table_for
from django_fsmworker.store.transition_log import guarded, log_moves
from django_fsmworker.traces import trace_if_active

PAUSES = (0, 0.01, 0.05, 0.2)  # seconds


class MySQLStore(Store):
    """InnoDB's row locks, and the server's clock."""

    dialect = sql.MySQLDialect()
    check_settings = staticmethod(requirements.check_settings)
    statistics_class = MySQLStatistics

    def _has_other_isolation(self) -> bool:
        self.connection.ensure_connection()
        level: str | None = self.connection.isolation_level  # type: ignore[attr-defined]
        return level != "read committed"  # nor is the server's own known to be that

    def shortcomings(self) -> list[str]:
        return list(requirements.shortcomings(self.connection))

    def refusals(self, model: Any) -> list[str]:
        return list(requirements.refusals(self.connection, model))

    def missing_indexes(self, model: Any) -> list[tuple[str, str]]:
        return list(requirements.missing_indexes(self.connection, model))

    def now(self) -> datetime:
        ((moment,),) = self._fetch(f"SELECT {sql.database_now()}", [])
        return moment.replace(tzinfo=UTC)  # type: ignore[no-any-return]

    def claim(
        self, model: Any, lanes: Sequence[Lane], lease: float, until: datetime | None = None
    ) -> list[Any]:
        self._lost_replies.free()
        table, token = table_for(model, self.alias), new_token()
        due, found = Due(self._fetch, table, lanes, until), None
        with self._lost_replies.claim(model, lanes, token):
            try:
                found = self._claim(table, due, table.fields, token, lease)
                rows = table.load(found, aware=due.aware)
            except Error:
                raise
            except Exception:  # one of the rows cannot be read
                if found is None:  # not even by the driver
                    table.stop_reading()
                    self._claim_unread(table, due, token, lease)
                rows = table.load_claimed((token, token + 1), [lane.state for lane in lanes])
        return sorted(rows, key=lambda row: row.__dict__["state_next"])

    def peek(self, lanes: Mapping[Any, Sequence[Lane]]) -> dict[tuple[Any, str], float]:
        self._lost_replies.free()
        now, parts = sql.database_now(), []
        asked: list[tuple[Any, str]] = []
        params: list[Any] = []
        for model, lane in [(model, lane) for model, some in lanes.items() for lane in some]:
            table = table_for(model, self.alias)
            parts.append(sql.peek(table, len(asked), now, key_column([lane])))
            params += [lane.state, *lane_value(table, lane), self._since(lane)]
            asked.append((model, lane.state))
        rows = self._fetch(" UNION ALL ".join(parts), params)
        return {asked[position]: due / 1_000_000 for position, due in rows}

    def _due_keys(
        self, table: Table, state: str, column: str, after: Any, most: int
    ) -> list[tuple[Any, Any]]:
        statement = sql.due_keys(table, column, sql.database_now(), after is None)
        beyond = [] if after is None else table.prepared(column, [after])
        return self._fetch(statement, [state, *beyond, most])

    def settle(self, model: Any, outcomes: Sequence[Outcome], worker: str = "") -> set[Any]:
        table = table_for(model, self.alias)
        with self._at_once():
            return set(self._settle(table, outcomes, "NULL", [None], worker))

    def advance(
        self, model: Any, outcomes: Sequence[Outcome], lease: float, worker: str = ""
    ) -> list[Any]:
        table, token = table_for(model, self.alias), new_token()
        end, ends = self.dialect.later(self.connection, lease)
        with self._lost_replies.advance(model, outcomes, token), self._at_once():
            keys = self._settle(table, outcomes, end, [*ends, token], worker)
            found = self._read_whole(table, table.prepare_keys(keys), token)
        try:
            return table.load(found)
        except Exception:  # the write stands; one of its rows cannot be read
            return table.load_claimed((token,), {each.target for each in outcomes})

    def still_held(
        self, model: Any, fences: Sequence[Fence], *, same_state: bool = True
    ) -> set[Any]:
        table = table_for(model, self.alias)
        rows = held(self._fetch, table, fences, lock=False, same_state=same_state)
        return {pk for pk, _ in rows}

    def first_true(
        self, model: Any, guards: Sequence[Transition], keys: Collection[Any]
    ) -> dict[Any, Transition]:
        # One after the other: of a single statement the server works out beforehand what is
        # constant about a single row, and meets the errors of guards that are not asked.
        return first_true_one_by_one(model, guards, keys, self.alias)

    def sweep(self, rows: QuerySet[Any], target: State, worker: str = "") -> set[Any]:
        # Locked alone: the condition may join other tables, whose rows would be locked along.
        model: Any = rows.model
        table, name = table_for(model, self.alias), key_name(model)
        found = list(set(rows.values_list(name, flat=True)))
        moved: set[Any] = set()
        for some in portions(found, sql.MOST_LISTED):
            with self.transaction():
                keys = table.prepare_keys(some)
                free = table.each_key(self._fetch(*sql.fences(table, keys, lock=True)))
                free_rows = rows.filter(with_keys(model, free))
                if logs_transitions(model):
                    entries = set(moments(free_rows))
                    moves = [guarded(*each, target, worker) for each in entries]
                    log_moves(self.alias, model, moves)
                    still = {key for key, _, _ in entries}
                else:
                    still = set(free_rows.values_list(name, flat=True))
                if still:
                    known: QuerySet[Any] = QuerySet(declaring_model(model), using=self.alias)
                    known = known.filter(with_keys(known.model, list(still)))
                    known.update(**entering(model, target, trace=trace_if_active()))
                moved |= still
        return moved

    def _claim(
        self, table: Table, due: Due, fields: Sequence[Any], token: int, lease: float
    ) -> list[list[Any]]:
        """Lease what is due; returns the ``fields`` of each row."""
        at = [fields.index(field) for field in table.key_fields]
        with self._at_once():
            now, rows = due.lock(fields)
            if not rows:
                return rows
            end = now + timedelta(seconds=lease)
            take(fields, rows, token, end)
            for some in portions(rows, sql.MOST_LISTED):
                keys = [[row[position] for position in at] for row in some]
                self._execute(*sql.claim(table, keys, token, self._moment(end)))
        return rows

    def _claim_unread(self, table: Table, due: Due, token: int, lease: float) -> None:
        """Claim what a connection had locked that was closed in the middle of its answer.

        It takes the server a moment to notice that, and to let go of the rows.
        """
        for pause in PAUSES:
            time.sleep(pause)
            if self._claim(table, due, table.own_fields, token, lease):
                return

    def _settle(
        self,
        table: Table,
        outcomes: Sequence[Outcome],
        lease: str,
        claim: Sequence[Any],
        worker: str,
    ) -> list[Any]:
        """Write the outcomes whose rows carry what the fence asks for; returns their keys."""
        by_key = {each.pk: each for each in outcomes}
        fences = [Fence(each.pk, each.token, each.source) for each in outcomes]
        groups: dict[tuple[str, bool, int], list[tuple[Key, Outcome]]] = {}
        rows = held(self._fetch, table, fences)
        for pk, key in rows:
            outcome = by_key[pk]
            alike = (outcome.target, outcome.moved, outcome.failures)
            groups.setdefault(alike, []).append((key, outcome))
        for group in groups.values():
            for some in portions(group, sql.MOST_LISTED):
                self._execute(*sql.settle(table, some, lease, claim, sql.database_now()))
        self._log_settled(table.model, [by_key[pk] for pk, _ in rows], worker)
        return [pk for pk, _ in rows]

    def _write_held(
        self, table: Table, fences: Sequence[Fence], changes: Term, *, same_state: bool
    ) -> set[Any]:
        assignments, params = changes
        with self._at_once():
            rows = held(self._fetch, table, fences, same_state=same_state)
            for keys in portions([key for _, key in rows], sql.MOST_LISTED):
                self._execute(*sql.update(table, keys, assignments, params))
        return {pk for pk, _ in rows}

    def _read_whole(self, table: Table, keys: list[list[Any]], token: int) -> list[Any]:
        rows: list[Any] = []
        for some in portions(keys, sql.MOST_LISTED):
            condition, params = sql.keyed(table, some)
            rows += self._fetch(
                f"SELECT {table.whole_row} FROM {table.name} FORCE INDEX (PRIMARY) "
                f"WHERE {condition} AND {table.claim} = %s",
                [*params, token],
            )
        return rows

    def _execute(self, statement: str, params: Sequence[Any]) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, params)

    def _since(self, lane: Lane) -> Any:
        return sql.BEGINNING if lane.since is None else self._moment(lane.since)

    def _moment(self, moment: datetime) -> Any:
        return self.connection.ops.adapt_datetimefield_value(moment)

    @contextmanager
    def _at_once(self) -> Iterator[None]:
        """What happens inside is committed together.

        Two statements around it. Django's own way is three, since it turns autocommit off and on.
        """
        connection = self.connection
        if connection.in_atomic_block:
            yield
            return
        if self._has_other_isolation():
            self._execute(READ_COMMITTED, [])
        self._execute("START TRANSACTION", [])
        try:
            yield
            self._execute("COMMIT", [])
        except BaseException:
            with suppress(Error):
                self._execute("ROLLBACK", [])
            raise
