"""Settling: every finishing write is fenced, and says when the row is next due."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import DatabaseError, transaction

from django_fsmworker import clock
from django_fsmworker.store import Ending, store_for
from django_fsmworker.testing import travel
from testapp.models import Order
from tests.app.models import BasicModel, Hidden, Noop, RelatedKey, TextKey, Trouble, UUIDKey
from tests.database.rows import PAST, claim, claimed, fence, fetch, moved, put, stayed, timed

pytestmark = pytest.mark.django_db


@pytest.fixture
def store():
    return store_for("default")


def due(row):
    """When the row is next due; None for never."""
    return fetch(row).state_next


class TestMoved:
    def test_a_moved_row_is_free_due_and_without_failures(self, store):
        row = claimed(Order, state_failures=2)

        with timed() as span:
            assert store.settle(Order, [moved(row, "paid")]) == {row.pk}

        saved = fetch(row)
        assert saved.state == "paid"
        assert saved.state_changed > row.state_changed
        assert (saved.state_lease, saved.state_claim, saved.state_failures) == (None, None, 0)
        assert span.leads_to(saved.state_next, 0)

    def test_other_columns_are_left_alone(self, store):
        row = claimed(Order, tracking="t1")
        put(row, tracking="t2")

        store.settle(Order, [moved(row, "paid")])

        assert fetch(row).tracking == "t2"

    def test_is_due_again_at_once(self, store):
        row = claimed(Order)

        store.settle(Order, [moved(row, "paid")])

        assert claim(Order) == [row]

    def test_a_state_with_start_after_is_due_then(self, store):
        row = claimed(BasicModel)

        with timed() as span:
            store.settle(BasicModel, [moved(row, "pending_delete")])

        assert span.leads_to(due(row), 5)

    @pytest.mark.parametrize("state", ["done", "timed_out"])
    def test_a_state_without_a_check_is_never_due(self, store, state):
        row = claimed(BasicModel)

        store.settle(BasicModel, [moved(row, state)])

        assert due(row) is None

    def test_a_state_with_a_timeout_alone_is_due_then(self, store):
        row = claimed(Trouble)

        with timed() as span:
            store.settle(Trouble, [moved(row, "waiting")])

        assert span.leads_to(due(row), 30)

    def test_the_history_gets_state_and_time(self, store):
        row = claimed(Trouble)

        store.settle(Trouble, [moved(row, "done")])

        saved = fetch(row)
        assert [state for state, _ in saved.state_history] == ["new", "done"]
        assert saved.state_history[1][1][:19] == saved.state_changed.isoformat()[:19]
        assert saved.state_history[1][1].endswith("+00:00")

    def test_a_missing_history_begins_here(self, store):
        row = claimed(Trouble)
        put(row, state_history=[])

        store.settle(Trouble, [moved(row, "done")])

        assert [state for state, _ in fetch(row).state_history] == ["done"]

    def test_into_the_same_state_again(self, store):
        row = claimed(Trouble)

        store.settle(Trouble, [moved(row, "new")])

        saved = fetch(row)
        assert saved.state_changed > row.state_changed
        assert [state for state, _ in saved.state_history] == ["new", "new"]


class TestStayed:
    def test_a_row_that_stays_is_free_and_due_after_its_delay(self, store):
        row = claimed(Order, state_failures=2)

        with timed() as span:
            assert store.settle(Order, [stayed(row, 60)]) == {row.pk}

        saved = fetch(row)
        assert (saved.state, saved.state_changed) == ("new", row.state_changed)
        assert (saved.state_lease, saved.state_claim, saved.state_failures) == (None, None, 0)
        assert span.leads_to(saved.state_next, 60)

    def test_a_delay_may_be_a_fraction_of_a_second(self, store):
        row = claimed(Noop)

        with timed() as span:
            store.settle(Noop, [stayed(row, 0.25)])

        assert span.leads_to(due(row), 0.25)

    def test_the_history_stays_as_it_is(self, store):
        row = claimed(Trouble)

        store.settle(Trouble, [stayed(row)])

        assert fetch(row).state_history == row.state_history

    @pytest.mark.parametrize(
        ("age", "delay", "times_out"),
        [
            (0, 30, False),
            (3540, 30, False),
            (3540, 90, True),
            (3580, 30, True),
            (0, None, True),
            (3700, 30, True),
        ],
    )
    def test_the_timeout_counts_if_it_is_earlier(self, store, age, delay, times_out):
        row = claimed(Order, state_changed=clock.now() - timedelta(seconds=age))

        with timed() as span:
            store.settle(Order, [stayed(row, delay, timeout=3600.0)])

        if times_out:
            assert due(row) == row.state_changed + timedelta(hours=1)
        else:
            assert span.leads_to(due(row), delay)

    def test_without_delay_and_timeout_it_is_never_due(self, store):
        row = claimed(Noop)

        store.settle(Noop, [stayed(row, None)])

        assert due(row) is None

    def test_after_renewals_the_due_time_is_computed_anew(self, store):
        row = claimed(Order)
        store.renew(Order, [fence(row)], 900)

        with timed() as span:
            store.settle(Order, [stayed(row, 60)])

        assert span.leads_to(due(row), 60)


class TestFailed:
    def test_the_new_count_and_the_next_try(self, store):
        row = claimed(Order, state_failures=2)

        with timed() as span:
            store.settle(Order, [stayed(row, 45, ending=Ending.FAILED, failures=3)])

        saved = fetch(row)
        assert (saved.state, saved.state_failures, saved.state_claim) == ("new", 3, None)
        assert span.leads_to(saved.state_next, 45)

    def test_the_count_saturates(self, store):
        row = claimed(Order)

        store.settle(Order, [stayed(row, 45, ending=Ending.FAILED, failures=32768)])

        assert fetch(row).state_failures == 32767

    def test_a_parked_row_is_never_due_and_not_stranded(self, store):
        row = claimed(Noop)

        store.settle(Noop, [stayed(row, None, ending=Ending.FAILED, failures=3)])

        assert due(row) is None
        assert fetch(row).state_failures == 3
        assert not Noop.objects.stranded()

    def test_a_row_enters_the_failure_state_without_failures(self, store):
        row = claimed(Trouble)

        store.settle(Trouble, [moved(row, "failed", ending=Ending.FAILED, cause="failure")])

        saved = fetch(row)
        assert (saved.state, saved.state_failures, saved.state_next) == ("failed", 0, None)
        assert saved.state_changed > row.state_changed
        assert [state for state, _ in saved.state_history] == ["new", "failed"]

    def test_a_row_past_its_timeout_enters_the_timeout_state(self, store):
        row = claimed(Order)

        store.settle(Order, [moved(row, "failed", ending=Ending.OVERRAN, cause="timeout")])

        assert fetch(row).state == "failed"


class TestFence:
    def refused(self, store, outcome):
        """Nothing was written."""
        before = fetch(outcome.row).__dict__

        assert store.settle(type(outcome.row), [outcome]) == set()

        after = fetch(outcome.row).__dict__
        for name, value in before.items():
            assert name.startswith("_") or after[name] == value

    def test_a_row_with_another_token_is_refused(self, store):
        row = claimed(Order)
        put(row, state_claim=row.state_claim + 2)

        self.refused(store, moved(row, "paid"))

    def test_a_row_that_was_taken_over_is_refused(self, store):
        row = claimed(Order)
        put(row, state_lease=PAST)
        claim(Order)

        self.refused(store, moved(row, "paid"))

    def test_a_row_without_a_token_is_refused(self, store):
        row = claimed(Order)
        put(row, state_claim=None)

        self.refused(store, moved(row, "paid"))

    def test_a_row_in_another_state_is_refused(self, store):
        row = claimed(Order)
        put(row, state="paid")

        self.refused(store, moved(row, "paid"))

    def test_a_row_moved_by_hand_meanwhile_is_refused(self, store):
        row = claimed(Order)
        fetch(row).state_transition("failed")

        self.refused(store, moved(row, "paid"))

    def test_a_row_moved_by_a_save_meanwhile_is_refused(self, store):
        row = claimed(Order)
        other = fetch(row)
        other.state = "failed"
        other.save()

        self.refused(store, moved(row, "paid"))

    def test_an_outcome_is_settled_only_once(self, store):
        row = claimed(Order)
        store.settle(Order, [moved(row, "paid")])

        self.refused(store, moved(row, "paid"))

    def test_a_deleted_row_is_not_settled(self, store):
        row = claimed(Order)
        outcome = moved(row, "paid")
        Order.objects.all().delete()

        assert store.settle(Order, [outcome]) == set()

    def test_a_lapsed_lease_that_nobody_took_is_still_ours(self, store):
        row = claimed(Order)
        put(row, state_lease=PAST)

        assert store.settle(Order, [moved(row, "paid")]) == {row.pk}

    def test_an_unclaimed_row_is_fenced_by_having_no_token(self, store):
        row = fetch(Order.objects.create())
        outcome = moved(row, "paid")
        assert outcome.token is None

        assert store.settle(Order, [outcome]) == {row.pk}

    def test_an_unclaimed_row_that_was_claimed_meanwhile(self, store):
        row = fetch(Order.objects.create())
        claim(Order)

        self.refused(store, moved(row, "paid"))

    def test_of_a_batch_only_the_stale_row_is_refused(self, store):
        rows = [claimed(Order) for _ in range(5)]
        put(rows[2], state_claim=4)

        written = store.settle(Order, [moved(row, "paid") for row in rows])

        assert written == {row.pk for row in rows} - {rows[2].pk}


class TestBatches:
    def test_outcomes_of_every_kind_are_settled_at_once(self, store):
        rows = [claimed(Trouble) for _ in range(4)]

        outcomes = [
            moved(rows[0], "done"),
            stayed(rows[1], 10),
            stayed(rows[2], 20, ending=Ending.FAILED, failures=1),
            moved(rows[3], "waiting"),
        ]

        with timed() as span:
            written = store.settle(Trouble, outcomes)

        assert written == {row.pk for row in rows}
        assert [fetch(row).state for row in rows] == ["done", "new", "new", "waiting"]
        assert due(rows[0]) is None
        for row, seconds in zip(rows[1:], (10, 20, 30), strict=True):
            assert span.leads_to(due(row), seconds)
        assert [fetch(row).state_failures for row in rows] == [0, 0, 1, 0]

    def test_without_outcomes_nothing_is_settled(self, store):
        assert store.settle(Order, []) == set()

    def test_rows_of_different_states_are_settled_together(self, store):
        new, paid = claimed(Order), claimed(Order, state="paid")

        store.settle(Order, [moved(paid, "shipped"), moved(new, "paid")])

        assert (fetch(new).state, fetch(paid).state) == ("paid", "shipped")

    @pytest.mark.parametrize("model", [UUIDKey, TextKey, Hidden])
    def test_keys_of_every_type_come_back(self, store, model):
        codes = ["it's", '["a"]', "100 %", "0", "null"]
        for code in codes:
            model.objects.create(**({"code": code} if model is TextKey else {}))
        rows = claim(model)

        written = store.settle(model, [moved(row, "done") for row in rows])

        assert written == {row.pk for row in rows}
        assert {type(pk) for pk in written} == {type(row.pk) for row in rows}
        assert {fetch(row).state for row in rows} == {"done"}

    def test_related_keys_come_back(self, store):
        RelatedKey.objects.create(text=TextKey.objects.create(code="a"))
        (row,) = claim(RelatedKey)

        assert store.settle(RelatedKey, [moved(row, "done")]) == {"a"}
        assert fetch(row).state == "done"

    @pytest.mark.django_db(databases=["default", "other"])
    def test_only_the_store_s_own_database_is_written(self):
        Order.objects.create(pk=5)
        Order.objects.using("other").create(pk=5)
        (row,) = claim(Order, using="other")

        assert store_for("other").settle(Order, [moved(row, "paid")]) == {5}

        assert Order.objects.get().state == "new"
        assert Order.objects.using("other").get().state == "paid"

    def test_what_the_database_refuses_raises_and_writes_nothing(self, store):
        rows = [claimed(Trouble, value=value) for value in (0, 13)]

        with pytest.raises(DatabaseError), transaction.atomic():
            store.settle(Trouble, [moved(row, "done") for row in rows])

        assert [fetch(row).state for row in rows] == ["new", "new"]


class TestTravelled:
    def test_state_changed_and_due_time_follow(self, store):
        row = claimed(BasicModel)

        with travel(seconds=3600):
            store.settle(BasicModel, [moved(row, "pending_delete")])

        saved = fetch(row)
        assert saved.state_changed - clock.now() > timedelta(minutes=59)
        assert saved.state_next - saved.state_changed == pytest.approx(
            timedelta(seconds=5), abs=timedelta(seconds=1)
        )
