"""``state_touch()``: a row is looked at soon, once, also when its check runs meanwhile."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_fsmworker import clock
from django_fsmworker.exceptions import GraphError
from django_fsmworker.store import Ending, store_for
from django_fsmworker.testing import travel
from tests.app.models import Purchase
from tests.app.models.kinds import ChildKind
from tests.database.rows import claimed, fence, fetch, moved, put, stayed

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def from_now(row: Any) -> Any:
    """Seconds until the row is due."""
    due = fetch(row).state_next
    return due and pytest.approx((due - clock.now()).total_seconds(), abs=5)


def later(**columns: Any) -> Any:
    """A row whose check would run in an hour."""
    row = Purchase.objects.create()
    put(row, **{"state_next": HOUR} | columns)
    return fetch(row)


class TestAFreeRow:
    def test_it_is_looked_at_soon(self):
        row = later()

        assert row.state_touch(after=30)

        assert from_now(row) == 30
        assert row.state_next == fetch(row).state_next

    def test_many_touches_are_one_check(self):
        row = later()
        row.state_touch(after=30)
        due = fetch(row).state_next

        with travel(seconds=10), CaptureQueriesContext(connection) as queries:
            assert not any(Purchase.objects.get().state_touch(after=30) for _ in range(10))
        assert fetch(row).state_next == due
        assert len(queries) == 20

    def test_a_row_that_is_due_sooner(self):
        row = later(state_next=timedelta(seconds=10))

        assert not row.state_touch(after=30)

        assert from_now(row) == 10

    def test_a_stranded_row(self):
        row = later(state_next=None)

        assert row.state_touch(after=timedelta(minutes=1))

        assert from_now(row) == 60

    @pytest.mark.parametrize(("wait", "expected"), [(HOUR, 300), (timedelta(seconds=60), 60)])
    def test_a_failing_row_keeps_its_backoff_for_a_while(self, wait, expected):
        row = later(state_failures=3, state_next=wait)

        row.state_touch(after=30, at_most=300)

        assert from_now(row) == expected

    def test_a_parked_row_stays_parked(self):
        row = later(state_failures=3, state_next=None)

        assert not row.state_touch()

        assert from_now(row) is None

    def test_a_state_without_a_check(self):
        row = Purchase.objects.create(state="held")

        assert not row.state_touch()

        assert from_now(row) is None

    def test_a_lease_that_has_lapsed(self):
        row = later(state_lease=-HOUR, state_claim=2)

        assert row.state_touch(after=30)

        assert from_now(row) == 30

    def test_a_value_that_was_assigned_is_not_lost(self):
        row = later()
        row.state_next = clock.now() + 2 * HOUR

        row.state_touch(after=30)
        row.save()

        assert from_now(row) == 7200

    def test_a_multi_table_child(self):
        row = ChildKind.objects.create()
        put(row, state_next=HOUR)

        assert ChildKind.objects.get().state_touch(after=30)

        assert from_now(row) == 30

    def test_for_async_code(self):
        row = later()

        assert async_to_sync(row.astate_touch)(after=30)

        assert from_now(row) == 30

    def test_what_is_no_duration(self):
        with pytest.raises(GraphError, match=r"^state_touch\(\) after=-1 is negative"):
            later().state_touch(after=-1)


class TestARowThatARunnerHolds:
    """It is looked at once more, at the latest when the lease would have run out."""

    def held(self) -> Any:
        return claimed(Purchase)

    def test_its_check_runs_again(self):
        row = self.held()
        assert Purchase.objects.get().state_touch()

        store_for("default").settle(Purchase, [stayed(row, delay=3600.0)])

        assert from_now(row) == 30

    def test_many_touches_write_once(self):
        self.held()

        assert [Purchase.objects.get().state_touch() for _ in range(3)] == [True, False, False]

    def test_a_next_try_that_is_sooner(self):
        row = self.held()
        Purchase.objects.get().state_touch()

        store_for("default").settle(Purchase, [stayed(row, delay=7.0)])

        assert from_now(row) == 7

    def test_the_lease_is_renewed_meanwhile(self):
        row, store = self.held(), store_for("default")
        Purchase.objects.get().state_touch()

        store.renew(Purchase, [fence(row)], 60.0)
        assert not Purchase.objects.get().state_touch()
        store.settle(Purchase, [stayed(row, delay=3600.0)])

        assert from_now(row) == 60

    def test_a_touch_after_the_lease_was_renewed(self):
        row, store = self.held(), store_for("default")
        store.renew(Purchase, [fence(row)], 60.0)

        assert Purchase.objects.get().state_touch()
        store.settle(Purchase, [stayed(row, delay=3600.0)])

        assert from_now(row) == 60

    def test_without_a_touch_nothing_changes(self):
        row, store = self.held(), store_for("default")
        store.renew(Purchase, [fence(row)], 60.0)

        store.settle(Purchase, [stayed(row, delay=3600.0)])

        assert from_now(row) == 3600

    def test_a_check_that_failed_keeps_its_backoff(self):
        row = self.held()
        Purchase.objects.get().state_touch()

        store_for("default").settle(
            Purchase, [stayed(row, delay=3600.0, ending=Ending.FAILED, failures=1)]
        )

        assert from_now(row) == 3600

    @pytest.mark.parametrize(("due", "expected"), [(HOUR, 30), (None, None)])
    def test_a_row_whose_claim_was_revoked_has_its_due_time(self, due, expected):
        row = self.held()
        put(
            row,
            state_claim=-1 - row.state_claim,
            state_next=due,
            state_failures=-1 if not due else 0,
        )

        Purchase.objects.get().state_touch()

        assert from_now(row) == expected

    def test_a_row_that_moved_is_looked_at_in_its_new_state(self):
        row = self.held()
        Purchase.objects.get().state_touch()

        store_for("default").settle(Purchase, [moved(row, "held")])

        assert from_now(row) is None

    def test_its_process_dies(self):
        """The lapsed lease is taken over in time."""
        row = self.held()
        Purchase.objects.get().state_touch()

        with travel(seconds=31):
            assert Purchase.state_get_ready(1, 30) == [row]
