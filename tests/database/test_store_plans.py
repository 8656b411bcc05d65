"""PostgreSQL's plans for the very statements that the store sends, on a table of many rows.

The table is new in each test, with or without statistics. Bounds are buffers a row, and a fixed
part: they hold whatever else is in the table.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from django_fsmworker import clock
from django_fsmworker.store import Lane, store_for
from tests.database.plans import explained
from tests.database.rows import LEASE, fence, moved, stayed

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db]

MANY = 50_000
SIZES = pytest.mark.parametrize("size", [10, 100, 1000, 5000])

# Measured: a claim reads 10.1 buffers a row, any other write 15.1, and at most 14 beside.
A_CLAIMED_ROW, A_HELD_ROW, FIXED = 12, 18, 20


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
    def test_many_due_rows_cost_a_claim_only_what_it_takes(self, store, table, size):
        table(MANY)

        plan = self.claim(store, table(), size)

        assert rows_returned(plan) == size
        assert plan.buffers <= FIXED + A_CLAIMED_ROW * size

    @SIZES
    def test_many_leased_rows_cost_a_claim_nothing(self, store, table, size):
        """Their due time moves along with their lease, so they are behind, not before, the due."""
        table(MANY, due=timedelta(seconds=LEASE), lease=timedelta(seconds=LEASE))
        table(size, due=-timedelta(seconds=10))

        plan = self.claim(store, table(), size)

        assert rows_returned(plan) == size
        assert plan.buffers <= FIXED + A_CLAIMED_ROW * size

    @SIZES
    def test_many_rows_that_may_not_run_cost_a_claim_nothing(self, store, table, size):
        """Due rows in a state that is left out: paused, at a limit, unknown to this build."""
        table(MANY, state="second", due=-timedelta(hours=1))
        table(MANY // 10, state="unknown", due=-timedelta(hours=1))
        table(size)

        plan = self.claim(store, table(), size, "first", "third")

        assert rows_returned(plan) == size
        assert plan.buffers <= FIXED + A_CLAIMED_ROW * size

    @SIZES
    def test_rows_due_later_cost_a_claim_nothing(self, store, table, size):
        table(MANY, due=timedelta(hours=1))
        table(size)

        plan = self.claim(store, table(), size)

        assert rows_returned(plan) == size
        assert plan.buffers <= FIXED + A_CLAIMED_ROW * size

    def test_costs_the_same_behind_100_000_rows_that_wait_or_may_not_run(self, store, table):
        table(MANY // 5)
        alone = self.claim(store, table(), 1000, "first")
        table(MANY, state="third", due=timedelta(hours=1))
        table(MANY, state="second", due=-timedelta(hours=1))
        table(1000, state="third")

        behind = self.claim(store, table(), 1000, "third")

        assert (rows_returned(alone), rows_returned(behind)) == (1000, 1000)
        # The index is a level deeper, which an entry that is written descends.
        assert behind.buffers <= alone.buffers + FIXED + 1000

    def test_a_claim_that_finds_nothing_costs_next_to_nothing(self, store, table):
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
    def test_settling_moved_rows_reaches_them_by_key(self, store, held, size):
        plan = explained(store.settle, type(held[0]), [moved(row, "second") for row in held])

        assert rows_returned(plan) == size
        self.assert_by_key(plan, size)

    @SIZES
    def test_settling_rows_that_stayed_reaches_them_by_key(self, store, held, size):
        plan = explained(store.settle, type(held[0]), [stayed(row) for row in held])

        assert rows_returned(plan) == size
        self.assert_by_key(plan, size)

    @SIZES
    def test_renewing_reaches_rows_by_key(self, store, held, size):
        plan = explained(store.renew, type(held[0]), [fence(row) for row in held], LEASE)

        assert rows_returned(plan) == size
        self.assert_by_key(plan, size)

    @SIZES
    def test_handing_back_reaches_rows_by_key(self, store, held, size):
        plan = explained(store.hand_back, type(held[0]), [fence(row) for row in held])

        assert rows_returned(plan) == size
        self.assert_by_key(plan, size)

    @SIZES
    def test_asking_for_held_rows_reaches_them_by_key(self, store, held, size):
        plan = explained(store.still_held, type(held[0]), [fence(row) for row in held])

        assert rows_returned(plan) == size
        self.assert_by_key(plan, size)
