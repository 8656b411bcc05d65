"""The protocol on MariaDB and MySQL: lock, then update by key, in one transaction.

There is no ``UPDATE … RETURNING``, and an UPDATE waits for locked rows. So rows are locked first,
with SKIP LOCKED, and what the fence asks for is compared here: exactly, whatever the collation of a
column takes for equal. Transactions are READ COMMITTED; at REPEATABLE READ a locking read locks the
gaps between rows, too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import Error, transaction
from django.db.models import QuerySet

from django_fsmworker.graph import State
from django_fsmworker.models.discovery import declaring_model
from django_fsmworker.models.keys import batched, key_name, with_keys
from django_fsmworker.models.moving import entering
from django_fsmworker.store import mysql_tables
from django_fsmworker.store.claims import Hold, Lane, new_token
from django_fsmworker.store.interface import Store
from django_fsmworker.store.mysql_due import Due, take
from django_fsmworker.store.mysql_fence import held
from django_fsmworker.store.mysql_sql import (
    BEGINNING,
    MOST_KEYS,
    Key,
    claim_sql,
    database_now,
    holds_sql,
    keyed,
    microseconds,
    peek_sql,
    settle_sql,
    update_sql,
)
from django_fsmworker.store.outcomes import Outcome
from django_fsmworker.store.tables import Table, table_for

PAUSES = (0, 0.01, 0.05, 0.2)  # seconds
READ_COMMITTED = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"


class MySQLStore(Store):
    """InnoDB's row locks, and the server's clock."""

    def transaction(self) -> AbstractContextManager[None]:
        return _read_committed(self.connection, self.alias)

    def shortcomings(self) -> list[str]:
        return list(mysql_tables.shortcomings(self.connection))

    def refusals(self, model: Any) -> list[str]:
        return list(mysql_tables.refusals(self.connection, model))

    def missing_indexes(self, model: Any) -> list[tuple[str, str]]:
        return list(mysql_tables.missing_indexes(self.connection, model))

    def now(self) -> datetime:
        ((moment,),) = self._fetch(f"SELECT {database_now()}", [])
        return moment.replace(tzinfo=UTC)  # type: ignore[no-any-return]

    def claim(
        self, model: Any, lanes: Sequence[Lane], lease: float, until: datetime | None = None
    ) -> list[Any]:
        self._unanswered.free()
        table, token = table_for(model, self.alias), new_token()
        due, found = Due(self._fetch, table, lanes, until), None
        with self._unanswered.claim(model, lanes, token):
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
        self._unanswered.free()
        now, parts = database_now(), []
        asked: list[tuple[Any, str]] = []
        params: list[Any] = []
        for model, lane in [(model, lane) for model, some in lanes.items() for lane in some]:
            parts.append(peek_sql(table_for(model, self.alias), len(asked), now))
            params += [lane.state, self._since(lane)]
            asked.append((model, lane.state))
        rows = self._fetch(" UNION ALL ".join(parts), params)
        return {asked[position]: due / 1_000_000 for position, due in rows}

    def settle(self, model: Any, outcomes: Sequence[Outcome]) -> set[Any]:
        table = table_for(model, self.alias)
        with self._at_once():
            return set(self._settle(table, outcomes, "NULL", [None]))

    def advance(self, model: Any, outcomes: Sequence[Outcome], lease: float) -> list[Any]:
        table, token = table_for(model, self.alias), new_token()
        end = f"{database_now()} + INTERVAL %s MICROSECOND"
        with self._unanswered.advance(model, outcomes, token), self._at_once():
            keys = self._settle(table, outcomes, end, [microseconds(lease), token])
            found = self._read_whole(table, table.prepare_keys(keys), token)
        try:
            return table.load(found)
        except Exception:  # the write stands; one of its rows cannot be read
            return table.load_claimed((token,), {each.target for each in outcomes})

    def renew(self, model: Any, holds: Sequence[Hold], lease: float) -> set[Any]:
        table, end = table_for(model, self.alias), f"{database_now()} + INTERVAL %s MICROSECOND"
        changes = f"{table.lease} = {end}, {table.next} = {end}"
        return self._write_held(table, holds, changes, [microseconds(lease)] * 2, same_state=True)

    def hand_back(self, model: Any, holds: Sequence[Hold]) -> set[Any]:
        # A suspect keeps a lease in the past: whoever claims it takes it over once more, which
        # counts the failure that is taken back here.
        table, now = table_for(model, self.alias), database_now()
        suspect = f"{table.claim} %% 2 = 1"
        changes = f"""
            {table.failures} = CASE WHEN {suspect} AND {table.failures} > 0
                THEN {table.failures} - 1 ELSE {table.failures} END,
            {table.lease} = CASE WHEN {suspect} THEN {now} ELSE NULL END,
            {table.next} = LEAST({table.next}, {now}),
            {table.claim} = NULL"""
        return self._write_held(table, holds, changes, [], same_state=False)

    def still_held(self, model: Any, holds: Sequence[Hold]) -> set[Any]:
        table = table_for(model, self.alias)
        fences = [(hold.pk, hold.token, hold.state) for hold in holds]
        rows = held(self._fetch, table, fences, lock=False)
        return {pk for pk, _ in rows}

    def sweep(self, rows: QuerySet[Any], target: State) -> set[Any]:
        # Locked alone: the condition may join other tables, whose rows would be locked along.
        model: Any = rows.model
        table, name = table_for(model, self.alias), key_name(model)
        found = list(set(rows.values_list(name, flat=True)))
        moved: set[Any] = set()
        for some in batched(found, MOST_KEYS):
            with self.transaction():
                keys = table.prepare_keys(some)
                free = table.each_key(self._fetch(*holds_sql(table, keys, lock=True)))
                still = set(rows.filter(with_keys(model, free)).values_list(name, flat=True))
                if still:
                    known: QuerySet[Any] = QuerySet(declaring_model(model), using=self.alias)
                    known = known.filter(with_keys(known.model, list(still)))
                    known.update(**entering(model, target))
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
            for some in batched(rows, MOST_KEYS):
                keys = [[row[position] for position in at] for row in some]
                self._execute(*claim_sql(table, keys, token, self._moment(end)))
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
        self, table: Table, outcomes: Sequence[Outcome], lease: str, claim: Sequence[Any]
    ) -> list[Any]:
        """Write the outcomes whose rows carry what the fence asks for; returns their keys."""
        by_key = {each.pk: each for each in outcomes}
        fences = [(each.pk, each.token, each.source) for each in outcomes]
        groups: dict[tuple[str, bool, int], list[tuple[Key, Outcome]]] = {}
        rows = held(self._fetch, table, fences)
        for pk, key in rows:
            outcome = by_key[pk]
            alike = (outcome.target, outcome.moved, outcome.failures)
            groups.setdefault(alike, []).append((key, outcome))
        for group in groups.values():
            for some in batched(group, MOST_KEYS):
                self._execute(*settle_sql(table, some, lease, claim, database_now()))
        return [pk for pk, _ in rows]

    def _write_held(
        self,
        table: Table,
        holds: Sequence[Hold],
        changes: str,
        params: list[Any],
        same_state: bool,
    ) -> set[Any]:
        """Apply ``changes`` to the rows that still carry their token and that nobody has locked."""
        fences = [(hold.pk, hold.token, hold.state if same_state else None) for hold in holds]
        with self._at_once():
            rows = held(self._fetch, table, fences)
            for keys in batched([key for _, key in rows], MOST_KEYS):
                self._execute(*update_sql(table, keys, changes, params))
        return {pk for pk, _ in rows}

    def _read_whole(self, table: Table, keys: list[list[Any]], token: int) -> list[Any]:
        rows: list[Any] = []
        for some in batched(keys, MOST_KEYS):
            condition, params = keyed(table, some)
            rows += self._fetch(
                f"SELECT {table.whole_row} FROM {table.name} FORCE INDEX (PRIMARY) "
                f"WHERE {condition} AND {table.claim} = %s",
                [*params, token],
            )
        return rows

    def _execute(self, sql: str, params: Sequence[Any]) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)

    def _since(self, lane: Lane) -> Any:
        return BEGINNING if lane.since is None else self._moment(lane.since)

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
        if _level(connection) != "read committed":
            self._execute(READ_COMMITTED, [])
        self._execute("START TRANSACTION", [])
        try:
            yield
            self._execute("COMMIT", [])
        except BaseException:
            with suppress(Error):
                self._execute("ROLLBACK", [])
            raise


@contextmanager
def _read_committed(connection: Any, alias: str) -> Iterator[None]:
    """A transaction at READ COMMITTED, whatever level the project's own ones have."""
    outermost = not connection.in_atomic_block
    with transaction.atomic(using=alias):
        if outermost and _level(connection) != "read committed":
            with connection.cursor() as cursor:
                cursor.execute(READ_COMMITTED)
        yield


def _level(connection: Any) -> str | None:
    """The isolation level of its session; None for the server's own."""
    connection.ensure_connection()
    level: str | None = connection.isolation_level
    return level
