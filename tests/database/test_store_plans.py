"""PostgreSQL's plans for the very statements that the store sends, on a table of many rows.

The table is new in each test, with or without statistics. Bounds are buffers a row, and a fixed
part: they hold whatever else is in the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, models, transaction
from django.test.utils import isolate_apps

from django_fsmworker import clock
from django_fsmworker.models import StateField, StatorModel
from django_fsmworker.store import Lane, store_for
from testapp.models import ChainStates
from tests.database.rows import LEASE, hold, moved, stayed

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db]

MANY = 50_000
SIZES = pytest.mark.parametrize("size", [10, 1000, 5000])

# Measured: a claim reads 10.1 buffers a row, any other write 15.1, and at most 14 beside.
A_CLAIMED_ROW, A_HELD_ROW, FIXED = 12, 18, 20


class Planned(Exception):
    """Carries the plan out of the store's method."""


@dataclass
class Plan:
    root: dict[str, Any]

    def nodes(self, node: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        node = node or self.root
        yield node
        for child in node.get("Plans", []):
            yield from self.nodes(child)

    @property
    def buffers(self) -> int:
        return int(self.root["Shared Hit Blocks"]) + int(self.root["Shared Read Blocks"])

    @property
    def scans(self) -> set[str]:
        """How the table is reached."""
        return {
            node["Node Type"]
            for node in self.nodes()
            if node.get("Relation Name") and "Scan" in node["Node Type"]
        }

    @property
    def indexes(self) -> set[str]:
        return {node["Index Name"] for node in self.nodes() if "Index Name" in node}


def explained(function: Any, *arguments: Any) -> Plan:
    """Run the one statement that ``function`` sends, explained, and take it back."""

    def explain(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "SAVEPOINT" in sql:
            return execute(sql, params, many, context)
        execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", params, many, context)
        raise Planned(context["cursor"].fetchone()[0][0]["Plan"])

    with transaction.atomic():
        try:
            with connection.execute_wrapper(explain):
                function(*arguments)
        except Planned as planned:
            transaction.set_rollback(True)
            return Plan(planned.args[0])
    raise AssertionError("no statement was sent")


def model_of_its_own() -> Any:
    with isolate_apps("testapp"):

        class Planning(StatorModel):
            __module__ = "testapp.models"
            state = StateField(ChainStates)
            text = models.CharField(max_length=100)

    return Planning


@pytest.fixture(params=[True, False], ids=["analysed", "not analysed"])
def table(request):
    """``table(number, columns…)…``: fill the table; call it without arguments when it is full."""
    model = model_of_its_own()
    with connection.schema_editor() as editor:
        editor.create_model(model)

    def fill(number=0, state="first", due=timedelta(0), lease=None):
        """Rows due around ``due`` from now, one every 0.1 ms, in the order of their keys."""
        if not number:
            if request.param:
                with connection.cursor() as cursor:
                    cursor.execute("ANALYZE testapp_planning")
            return model
        with connection.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO testapp_planning
                    (text, state, state_changed, state_next, state_lease, state_claim)
                SELECT repeat('x', 50), %s, statement_timestamp(),
                    statement_timestamp() + %s - (%s - n) * interval '0.0001 second',
                    statement_timestamp() + %s, %s
                FROM generate_series(1, %s) AS n
                """,
                [state, due, number, lease, None if lease is None else 4, number],
            )
        return model

    return fill


@pytest.fixture
def store():
    return store_for("default")


def lanes(limit, *states):
    return [Lane(state, limit) for state in states or ("first", "second", "third", "last")]


def rows_returned(plan):
    return plan.root["Actual Rows"]


class TestClaim:
    def claim(self, store, model, size, *states):
        plan = explained(store.claim, model, lanes(size, *states), LEASE)

        assert plan.scans == {"Index Scan", "Tid Scan"}
        assert {name.rsplit("_", 1)[-1] for name in plan.indexes} == {"due"}
        return plan

    @SIZES
    def test_many_are_due(self, store, table, size):
        table(MANY)

        plan = self.claim(store, table(), size)

        assert rows_returned(plan) == size
        assert plan.buffers <= FIXED + A_CLAIMED_ROW * size

    @SIZES
    def test_many_are_leased(self, store, table, size):
        """Their due time moves along with their lease, so they are behind, not before, the due."""
        table(MANY, due=timedelta(seconds=LEASE), lease=timedelta(seconds=LEASE))
        table(size, due=-timedelta(seconds=10))

        plan = self.claim(store, table(), size)

        assert rows_returned(plan) == size
        assert plan.buffers <= FIXED + A_CLAIMED_ROW * size

    @SIZES
    def test_many_may_not_run(self, store, table, size):
        """Due rows in a state that is left out: paused, at a limit, unknown to this build."""
        table(MANY, state="second", due=-timedelta(hours=1))
        table(MANY // 10, state="unknown", due=-timedelta(hours=1))
        table(size)

        plan = self.claim(store, table(), size, "first", "third")

        assert rows_returned(plan) == size
        assert plan.buffers <= FIXED + A_CLAIMED_ROW * size

    @SIZES
    def test_many_wait(self, store, table, size):
        table(MANY, due=timedelta(hours=1))
        table(size)

        plan = self.claim(store, table(), size)

        assert rows_returned(plan) == size
        assert plan.buffers <= FIXED + A_CLAIMED_ROW * size

    def test_nothing_is_due(self, store, table):
        table(MANY, due=timedelta(hours=1))
        table(MANY, state="second", due=-timedelta(hours=1))

        plan = self.claim(store, table(), 1000, "first", "third", "last")

        assert rows_returned(plan) == 0
        assert plan.buffers <= FIXED

    def test_from_a_low_water_mark(self, store, table):
        """What lies before the mark, such as dead entries of the index, is not walked over."""
        table(MANY, due=-timedelta(hours=1), lease=timedelta(seconds=LEASE))
        table(10, due=-timedelta(seconds=1))
        model, mark = table(), clock.now() - timedelta(minutes=1)

        plan = explained(store.claim, model, [Lane("first", 10, mark)], LEASE)

        assert rows_returned(plan) == 10
        assert plan.buffers <= FIXED + A_CLAIMED_ROW * 10


def test_claims_are_hot_updates(store, table):
    """No index entry is written, given room: lease, token and failures are in no index."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE testapp_planning SET (fillfactor = 40)")
    table(5000)

    store.claim(table(), lanes(1000), LEASE)

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = %s",
            ["testapp_planning"],
        )
        assert cursor.fetchone() == (1000, 1000)


class TestPeek:
    def test_reads_a_few_pages_of_each_lane(self, store, table):
        table(MANY)
        table(MANY, state="second", due=timedelta(hours=1))
        model = table()

        plan = explained(store.peek, {model: lanes(1)})

        assert rows_returned(plan) == 2
        assert "Seq Scan" not in plan.scans
        assert plan.buffers <= FIXED


class TestHeldRows:
    @pytest.fixture
    def held(self, store, table, size):
        table(MANY)
        model = table()
        return store.claim(model, lanes(size, "first"), LEASE)

    def assert_by_key(self, plan, size):
        assert plan.scans <= {"Index Scan", "Tid Scan"}
        assert {name.rsplit("_", 1)[-1] for name in plan.indexes} == {"pkey"}
        assert plan.buffers <= FIXED + A_HELD_ROW * size

    @SIZES
    def test_settle_moved(self, store, held, size):
        plan = explained(store.settle, type(held[0]), [moved(row, "second") for row in held])

        assert rows_returned(plan) == size
        self.assert_by_key(plan, size)

    @SIZES
    def test_settle_stayed(self, store, held, size):
        plan = explained(store.settle, type(held[0]), [stayed(row) for row in held])

        assert rows_returned(plan) == size
        self.assert_by_key(plan, size)

    @SIZES
    def test_renew(self, store, held, size):
        plan = explained(store.renew, type(held[0]), [hold(row) for row in held], LEASE)

        assert rows_returned(plan) == size
        self.assert_by_key(plan, size)

    @SIZES
    def test_hand_back(self, store, held, size):
        plan = explained(store.hand_back, type(held[0]), [hold(row) for row in held])

        assert rows_returned(plan) == size
        self.assert_by_key(plan, size)

    @SIZES
    def test_still_held(self, store, held, size):
        plan = explained(store.still_held, type(held[0]), [hold(row) for row in held])

        assert rows_returned(plan) == size
        self.assert_by_key(plan, size)
