"""Guards without a runner: a row's own verb, and the tools for tests."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, connection
from django.db.models import Q

from django_fsmworker.graph import Transition
from django_fsmworker.models import FailureRecord
from django_fsmworker.signals import state_changed
from django_fsmworker.testing import NotIdle, assert_path, run_until_idle, step, travel
from tests.app.models import Delivery, DeliveryStates, Endpoint, Noop, Receipt, deliveries
from tests.app.models.deliveries import UNASKABLE
from tests.database.rows import fetch

pytestmark = pytest.mark.django_db

HELD, PENDING = DeliveryStates.held, DeliveryStates.pending


@pytest.fixture
def paused():
    return Endpoint.objects.create(paused=True)


@pytest.fixture
def causes():
    """Each move, with its cause."""
    found = []

    def note(sender, pk, source, target, cause, **kwargs):
        found.append((source, target, cause))

    state_changed.connect(note, sender=Delivery)
    yield found
    state_changed.disconnect(note, sender=Delivery)


@pytest.fixture
def unchecked(monkeypatch):
    """No check is to be run."""

    def refuse(row):
        raise AssertionError("the check was run")

    monkeypatch.setitem(deliveries.DELIVERIES, "deliver", refuse)


class TestTransitionCheck:
    def test_a_guard_before_the_check(self, paused, unchecked):
        row = Delivery.objects.create(endpoint=paused)

        assert row.state_transition_check() is HELD
        assert (row.state, fetch(row).state) == ("held", "held")

    def test_the_check_if_none_is_true(self):
        row = Delivery.objects.create()

        assert row.state_transition_check() is DeliveryStates.delivered

    def test_in_a_state_without_a_check(self, paused):
        row = Delivery.objects.create(state="held", endpoint=paused)
        assert row.state_transition_check() is None

        Endpoint.objects.update(paused=False)

        assert row.state_transition_check() is PENDING

    def test_a_swept_state_s_timeout_is_taken(self, paused):
        row = Delivery.objects.create(state="held", endpoint=paused)

        with travel(seconds=601):
            assert row.state_transition_check() is DeliveryStates.gone

    @pytest.mark.django_db(transaction=True)
    def test_a_guard_that_fails_is_a_failure_of_the_row(self, unchecked):
        row = Delivery.objects.create(amount=UNASKABLE)

        assert row.state_transition_check() is None

        assert fetch(row).state_failures == 1
        assert FailureRecord.objects.get().state == "pending"

    def test_a_guard_that_fails_inside_a_transaction(self, unchecked):
        """The transaction goes on."""
        row = Delivery.objects.create(amount=UNASKABLE)

        assert row.state_transition_check() is None

        assert Delivery.objects.failing().get() == row

    def test_a_row_that_moved_meanwhile(self, paused):
        row = Delivery.objects.create(state="held", endpoint=paused)
        stale = Delivery.objects.get(pk=row.pk)
        row.state_transition("delivered")
        Endpoint.objects.update(paused=False)

        assert stale.state_transition_check() is None
        assert fetch(row).state == "delivered"


class TestStep:
    @pytest.mark.django_db(transaction=True)
    def test_a_true_guard_moves_the_row(self, paused, causes, unchecked):
        row = Delivery.objects.create(endpoint=paused)

        assert step(row) is HELD
        assert row.state == "held"
        assert causes == [("pending", "held", "guard")]

    def test_in_a_state_without_a_check(self, paused):
        row = Delivery.objects.create(state="held", endpoint=paused)

        assert step(row) is None

    def test_the_error_of_a_guard_is_raised(self):
        row = Delivery.objects.create(state="signing", amount=UNASKABLE)

        with pytest.raises(DatabaseError) as caught:
            step(row)

        assert caught.value.__notes__ == [
            f"(tests.Delivery {row.pk} failed in the state 'signing'.)"
        ]
        assert row.state_failures == 1


class TestRunUntilIdle:
    @pytest.mark.django_db(transaction=True)
    def test_guards_are_asked_and_states_swept(self, paused, causes):
        row = Delivery.objects.create(endpoint=paused)
        assert run_until_idle(Delivery) == 1
        assert_path(row, ["pending", "held"])

        Endpoint.objects.update(paused=False)

        assert run_until_idle(Delivery) == 2
        assert_path(row, ["pending", "held", "pending", "delivered"])
        assert causes[1:] == [("held", "pending", "guard"), ("pending", "delivered", "check")]

    def test_many_rows_are_swept(self):
        rows = [Delivery.objects.create(state="signing", amount=number) for number in range(20)]

        assert run_until_idle(Delivery) == 40
        for row in rows:
            assert_path(row, ["signing", "pending", "delivered"])

    def test_without_a_model_every_one_is_swept(self):
        Delivery.objects.create(state="signing")

        assert run_until_idle() == 2

    def test_another_model_is_not_swept(self):
        row = Delivery.objects.create(state="signing")

        assert run_until_idle(Noop) == 0
        assert fetch(row).state == "signing"

    def test_rows_created_behind_the_back_of_signals(self):
        Delivery.objects.bulk_create([Delivery(state="signing")])

        run_until_idle(Delivery)

        assert_path(Delivery.objects.get(), ["signing", "pending", "delivered"])

    def test_a_swept_state_s_timeout_is_taken(self, paused):
        row = Delivery.objects.create(state="held", endpoint=paused)

        with travel(seconds=601):
            run_until_idle(Delivery)

        assert_path(row, ["held", "gone"])

    def test_the_error_of_a_guard_is_raised_when_the_others_have_moved(self):
        """Once that is written, it is the test that fails; the others have moved."""
        bad = Delivery.objects.create(state="signing", amount=UNASKABLE)
        good = Delivery.objects.create(state="signing", amount=5)

        with pytest.raises(DatabaseError) as caught:
            run_until_idle(Delivery)

        assert caught.value.__notes__ == [
            f"(tests.Delivery {bad.pk} failed in the state 'signing'.)"
        ]
        assert (fetch(bad).state_failures, fetch(good).state) == (1, "pending")

    def test_a_guard_that_fails_goes_the_way_of_the_graph(self):
        row = Delivery.objects.create(state="signing", amount=UNASKABLE)

        assert run_until_idle(Delivery, raise_failures=False) == 1
        with travel(seconds=61):
            assert run_until_idle(Delivery, raise_failures=False) == 1

        assert_path(row, ["signing", "gone"])

    def test_rows_that_go_round_for_ever(self, monkeypatch):
        monkeypatch.setitem(
            HELD.node.__dict__,
            "guards",
            (Transition(HELD, DeliveryStates.signing, "guard", when=Q()),),
        )
        monkeypatch.setitem(
            DeliveryStates.signing.node.__dict__,
            "guards",
            (Transition(DeliveryStates.signing, HELD, "guard", when=Q()),),
        )
        row = Delivery.objects.create(state="held")

        with pytest.raises(NotIdle) as caught:
            run_until_idle(Delivery, limit=20)

        assert str(caught.value).startswith(
            f"After 20 attempts tests.Delivery {row.pk} is still moved by guards, in the state "
        )
        assert str(caught.value).endswith(
            "Let its states end or wait, or pass a higher limit to run_until_idle()."
        )

    def test_without_guards_nothing_more_is_asked(self, django_assert_num_queries):
        with django_assert_num_queries(1):
            assert run_until_idle(Noop) == 0


def test_the_receipts_of_a_row_move_it():
    """A relation with many rows: two that match move the row once."""
    row = Delivery.objects.create(state="signing", amount=5000)
    Receipt.objects.bulk_create([Receipt(delivery=row, signed=True) for _ in range(2)])

    assert run_until_idle(Delivery) == 1
    assert_path(row, ["signing", "delivered"])
    assert connection.needs_rollback is False
