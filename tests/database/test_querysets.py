"""The words in which one asks for rows by their life, and states as values."""

from __future__ import annotations

import copy
import pickle
from datetime import timedelta

import pytest
from django.db import models

from django_fsmworker import clock
from django_fsmworker.models import StatorQuerySet
from django_fsmworker.testing import travel
from testapp.models import Order, OrderStates
from tests.app.models import BasicModel, Delivery, Hidden, Trouble
from tests.database.rows import put

pytestmark = pytest.mark.django_db

PAST, FUTURE = -timedelta(hours=1), timedelta(hours=1)


def make(**columns):
    """A row whose times are given from now on."""
    moments = {
        name: clock.now() + value if isinstance(value, timedelta) else value
        for name, value in columns.items()
    }
    return Order.objects.create(**moments)


class TestStatesAsValues:
    def test_loads_as_a_plain_str(self):
        row = Order.objects.get(pk=Order.objects.create().pk)

        assert type(row.state) is str

    def test_stays_a_plain_str_when_a_member_is_assigned(self):
        row = Order()
        row.state = OrderStates.paid
        assert type(row.state) is str

        row.state = OrderStates.shipped

        assert type(row.state) is str

    def test_compares_with_members(self):
        row = Order.objects.create(state="shipped")

        assert row.state == OrderStates.shipped
        assert OrderStates.shipped == row.state
        assert row.state != OrderStates.failed

    def test_is_found_in_sets_of_members(self):
        row = Order.objects.create(state="shipped")

        assert row.state in OrderStates.terminal_states
        assert row.state not in OrderStates.automatic_states

    def test_copies_of_members_compare_too(self):
        row = Order.objects.create(state="shipped")
        shipped = OrderStates.shipped

        for again in (copy.deepcopy(shipped), pickle.loads(pickle.dumps(shipped))):
            assert again is shipped
            assert row.state == again

    @pytest.mark.parametrize(
        "condition",
        [
            {"state": OrderStates.shipped},
            {"state": "shipped"},
            {"state__in": [OrderStates.shipped, "new"]},
            {"state__in": OrderStates.terminal_states},
            {"state__exact": OrderStates.shipped},
        ],
    )
    def test_a_filter_takes_states_and_their_names(self, condition):
        row = Order.objects.create(state="shipped")
        Order.objects.create(state="paid")

        assert Order.objects.get(**condition) == row

    def test_states_are_values_of_conditions(self):
        Order.objects.create(state="shipped")
        terminal = models.Q(state__in=OrderStates.terminal_states)
        shipped = models.Case(models.When(state=OrderStates.shipped, then=1), default=0)

        assert Order.objects.filter(terminal).annotate(shipped=shipped).get().shipped == 1

    def test_the_display_is_the_label(self):
        assert Order(state="shipped").get_state_display() == "shipped"

    def test_the_model_knows_its_graph(self):
        assert Order.state_graph is OrderStates


class TestVocabulary:
    def test_in_state_takes_names_and_states(self):
        rows = [Order.objects.create(state=state) for state in ("new", "paid", "failed")]

        assert set(Order.objects.in_state("new", OrderStates.failed)) == {rows[0], rows[2]}
        assert not Order.objects.in_state()

    def test_due_rows_are_those_past_their_time_and_not_leased(self):
        due = make(state_next=PAST)
        rescued = make(state_next=PAST, state_lease=PAST, state_claim=4)
        make(state_next=PAST, state_lease=FUTURE, state_claim=4)
        make(state_next=FUTURE)
        make(state_next=None)

        assert set(Order.objects.due()) == {due, rescued}
        assert Order.state_count_pending() == 2

    def test_running_rows_have_a_lease_that_lasts(self):
        running = make(state_lease=FUTURE, state_claim=4)
        make(state_lease=PAST, state_claim=4)
        make()

        assert set(Order.objects.running()) == {running}

    def test_lapsed_rows_have_a_lease_that_has_run_out(self):
        lapsed = make(state_lease=PAST, state_claim=4)
        handed_back = make(state_lease=PAST)
        make(state_lease=FUTURE, state_claim=4)
        make()

        assert set(Order.objects.lapsed()) == {lapsed, handed_back}

    def test_failing_rows_have_failures(self):
        failing = make(state_failures=1)
        make()

        assert set(Order.objects.failing()) == {failing}

    def test_stranded_rows_are_automatic_and_have_no_due_time(self):
        stranded = make(state_next=None)
        make(state_next=None, state_failures=5)
        make(state_next=PAST)
        make(state="shipped", state_next=None)

        assert set(Order.objects.stranded()) == {stranded}

    def test_swept_rows_are_in_states_with_guards_only(self):
        swept = [Delivery.objects.create(state=state) for state in ("held", "signing")]
        Delivery.objects.create()

        assert set(Delivery.objects.swept()) == set(swept)
        assert not Order.objects.swept()

    def test_swept_rows_are_not_stranded(self):
        Delivery.objects.create(state="signing")
        stranded = Delivery.objects.create()
        put(stranded, state_next=None)

        assert set(Delivery.objects.stranded()) == {stranded}

    def test_manual_rows_are_not_stranded(self):
        BasicModel.objects.create(state="done")

        assert not BasicModel.objects.stranded()

    def test_oldest_due_first_has_rows_without_a_due_time_last(self):
        rows = [make(state_next=due) for due in (None, FUTURE, PAST, PAST * 2)]

        assert list(Order.objects.oldest_due_first()) == rows[::-1]

    def test_words_follow_one_another(self):
        row = make(state_next=PAST, state_failures=1)

        assert Order.objects.filter(payment_id="").due().failing().in_state("new").get() == row

    def test_due_rows_follow_the_travelled_time(self):
        make(state_next=timedelta(seconds=50))

        assert not Order.objects.due()
        with travel(seconds=60):
            assert Order.objects.due().count() == 1
        with travel(seconds=-60):
            Order.objects.update(state_next=clock.now())
        assert Order.objects.due().count() == 1

    def test_as_subquery_and_in_updates(self):
        make(state_next=PAST)

        assert Order.objects.filter(pk__in=Order.objects.due()).count() == 1
        assert Order.objects.due().update(tracking="t1") == 1

    def test_querysets_of_ones_own(self):
        class Mine(StatorQuerySet[Order]):
            def mine(self):
                return self.due()

        row = make(state_next=PAST, state_failures=1)

        assert Mine(Order).mine().failing().get() == row


class TestAge:
    def test_it_is_the_seconds_in_the_state(self):
        row = make(state_changed=PAST)

        assert 3600 <= row.state_age < 3610
        with travel(seconds=60):
            assert 3660 <= row.state_age < 3670


class TestHiddenRows:
    def test_rows_that_a_manager_hides_are_counted(self):
        Hidden.objects.create(visible=False)

        assert Hidden.state_count_pending() == 1


class TestHistory:
    def test_begins_with_the_first_state(self):
        row = Trouble.objects.create()

        ((state, since),) = Trouble.objects.get(pk=row.pk).state_history
        assert state == "new"
        assert since == row.state_history[0][1]

    def test_every_way_of_moving_appends(self):
        row = Trouble.objects.create(mode="stay")

        row.state = "patient"
        row.save()
        row.state_transition("waiting")
        Trouble.state_transition_queryset(Trouble.objects.all(), "patient")
        row.refresh_from_db()
        row.mode = "succeed"
        row.save()
        row.state_transition_check()

        states = [state for state, _ in row.state_history]
        assert states == ["new", "patient", "waiting", "patient", "done"]
        times = [since for _, since in row.state_history]
        assert times == sorted(times)
        assert row.state_history == Trouble.objects.get(pk=row.pk).state_history

    def test_staying_does_not_append(self):
        row = Trouble.objects.create(mode="stay")

        row.state_transition_check()
        row.save()

        assert len(Trouble.objects.get(pk=row.pk).state_history) == 1

    def test_rows_created_in_bulk_begin_theirs(self):
        Trouble.objects.bulk_create([Trouble(), Trouble(state="done")])

        histories = Trouble.objects.order_by("pk").values_list("state_history", flat=True)
        assert [[state for state, _ in each] for each in histories] == [["new"], ["done"]]
