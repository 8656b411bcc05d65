"""``django_fsmworker.testing``: in a plain TestCase, on one thread and the caller's connection."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import TestCase, TransactionTestCase

from django_fsmworker import clock
from django_fsmworker.exceptions import UndeclaredTransition
from django_fsmworker.models import FailureRecord
from django_fsmworker.testing import NotIdle, assert_path, run_until_idle, step, travel
from testapp.models import Order, OrderStates
from tests.app.models import BasicModel, Chain, Hidden, Noop, Trouble, TroubleStates, UUIDKey
from tests.app.models import trouble as trouble_models


class TestReadme(TestCase):
    def test_the_readme_s_example_passes(self):
        order = Order.objects.create(payment_id="p1")

        run_until_idle(Order)

        assert_path(order, ["new", "paid", "shipped"])


class TestRunUntilIdle(TestCase):
    def test_it_returns_the_number_of_attempts(self):
        Order.objects.create(payment_id="p1")
        Order.objects.create()

        attempts = run_until_idle(Order)

        assert attempts == 3
        assert run_until_idle(Order) == 0

    def test_leaves_rows_free_and_the_instance_alone(self):
        order = Order.objects.create(payment_id="p1")

        run_until_idle(Order)

        assert order.state == "new"
        order.refresh_from_db()
        assert order.state == "shipped"
        assert order.tracking
        assert (order.state_claim, order.state_lease) == (None, None)

    def test_runs_all_models_unless_told_which(self):
        order, noop = Order.objects.create(payment_id="p1"), Noop.objects.create()

        run_until_idle()

        assert_path(order, ["new", "paid", "shipped"])
        assert_path(noop, ["new", "done"])

    def test_leaves_other_models_alone(self):
        noop = Noop.objects.create()

        run_until_idle(Order)

        assert_path(noop, ["new"])

    def test_does_not_wait_for_retries(self):
        order = Order.objects.create()

        assert run_until_idle(Order) == 1

        assert_path(order, ["new"])

    def test_runs_the_row_that_has_been_due_longest(self):
        rows = [Trouble.objects.create(mode="succeed") for _ in range(3)]
        seen: list[int] = []
        trouble_models.MODES["note"] = lambda states, row: seen.append(row.pk)
        self.addCleanup(trouble_models.MODES.pop, "note")
        for minutes, row in zip((1, 3, 2), rows, strict=True):
            due = clock.now() - timedelta(minutes=minutes)
            Trouble.objects.filter(pk=row.pk).update(state_next=due, mode="note")

        run_until_idle(Trouble)

        assert seen == [rows[1].pk, rows[2].pk, rows[0].pk]

    def test_sees_what_a_check_before_it_did_to_a_row(self):
        first, second = (Trouble.objects.create(mode="stop_the_others") for _ in range(2))

        def stop_the_others(states, row):
            others = Trouble.objects.exclude(pk=row.pk)
            Trouble.state_transition_queryset(others, states.waiting)
            return states.done

        trouble_models.MODES["stop_the_others"] = stop_the_others
        self.addCleanup(trouble_models.MODES.pop, "stop_the_others")

        run_until_idle(Trouble)

        assert_path(first, ["new", "done"])
        assert_path(second, ["new", "waiting"])

    def test_starts_no_thread(self):
        Order.objects.create(payment_id="p1")
        before = set(threading.enumerate())

        run_until_idle(Order)

        assert set(threading.enumerate()) <= before  # of another test, one may end meanwhile

    def test_hidden_rows_and_uuid_keys_are_run(self):
        hidden, keyed = Hidden.objects.create(visible=False), UUIDKey.objects.create()

        assert run_until_idle(Hidden, UUIDKey) == 2

        assert_path(hidden, ["new", "done"])
        assert_path(keyed, ["new", "done"])

    def test_a_row_that_is_always_due_ends_at_the_limit(self):
        row = Trouble.objects.create(mode="again")

        def again(states, row):
            with travel(seconds=-3600):
                Trouble.state_transition_queryset(Trouble.objects.all(), states.new)

        trouble_models.MODES["again"] = again
        self.addCleanup(trouble_models.MODES.pop, "again")

        with pytest.raises(NotIdle) as caught:
            run_until_idle(Trouble, limit=2)

        assert str(caught.value) == (
            f"After 2 attempts tests.Trouble {row.pk} is still due in the state 'new'; its path: "
            f"new → new → new. Let its states end or wait, or pass a higher limit to "
            f"run_until_idle()."
        )
        row.refresh_from_db()
        assert (row.state_claim, row.state_lease) == (None, None)

    def test_limit_is_no_error_when_it_is_just_enough(self):
        Order.objects.create(payment_id="p1")

        assert run_until_idle(Order, limit=2) == 2

    def test_limit_shows_the_end_of_a_long_path(self):
        row = Trouble.objects.create(mode="stay")
        entries = [["new", "2026-01-01T00:00:00+00:00"]] * 12
        Trouble.objects.filter(pk=row.pk).update(state_history=entries)

        with pytest.raises(NotIdle) as caught:
            run_until_idle(Trouble, limit=0)

        assert f"its path: … → {' → '.join(['new'] * 10)}. Let" in str(caught.value)


class TestFailures(TestCase):
    def test_the_checks_own_exception_comes_through(self):
        row = Trouble.objects.create(mode="raise")

        with pytest.raises(RuntimeError, match="the moon is in the wrong house") as caught:
            run_until_idle(Trouble)

        note = f"(tests.Trouble {row.pk} failed in the state 'new'.)"
        assert caught.value.__notes__ == [note]

    def test_the_failure_is_written_before(self):
        row = Trouble.objects.create(mode="raise")

        with pytest.raises(RuntimeError):
            run_until_idle(Trouble)

        row.refresh_from_db()
        assert row.state_failures == 1
        assert row.state_claim is None
        record = FailureRecord.objects.get(model="tests.Trouble", row=str(row.pk))
        assert (record.error, record.count) == ("RuntimeError", 1)

    def test_an_undeclared_transition_comes_through(self):
        Trouble.objects.create(mode="undeclared")

        with pytest.raises(UndeclaredTransition, match="TroubleStates.check_new returned new"):
            run_until_idle(Trouble)

    def test_what_the_database_refuses_comes_through_and_is_recorded(self):
        row = Trouble.objects.create(mode="break_constraint", value=13)

        with pytest.raises(IntegrityError):
            run_until_idle(Trouble)

        row.refresh_from_db()
        assert (row.state, row.state_failures) == ("new", 1)

    def test_a_database_error_in_a_check_leaves_the_tests_transaction_usable(self):
        row = Trouble.objects.create(mode="collide")

        def collide(states, row):
            Trouble.objects.create(pk=row.pk, mode="twin").save(force_insert=True)

        trouble_models.MODES["collide"] = collide
        self.addCleanup(trouble_models.MODES.pop, "collide")

        with pytest.raises(IntegrityError):
            run_until_idle(Trouble)

        row.refresh_from_db()
        assert row.state_failures == 1

    def test_on_request_the_graph_decides(self):
        row = Trouble.objects.create(mode="raise")

        run_until_idle(Trouble, raise_failures=False)
        for _ in range(2):
            with travel(minutes := timedelta(minutes=2)) as further:
                run_until_idle(Trouble, raise_failures=False)
                further(minutes)
                run_until_idle(Trouble, raise_failures=False)

        assert_path(row, ["new", "failed"])

    def test_trying_again_later_is_no_failure(self):
        Trouble.objects.create(mode="try_again", value=5)

        assert run_until_idle(Trouble) == 1

    def test_a_row_that_deletes_itself(self):
        Trouble.objects.create(mode="delete_itself")

        assert run_until_idle(Trouble) == 1
        assert not Trouble.objects.exists()


class TestStep(TestCase):
    def test_moves_one_state(self):
        order = Order.objects.create(payment_id="p1")

        state = step(order)

        assert state is OrderStates.paid
        assert order.state == "paid"
        assert_path(order, ["new", "paid"])

    def test_loads_what_the_check_saved(self):
        order = Order.objects.create(payment_id="p1", state="paid")

        step(order)

        assert order.tracking

    def test_the_check_sees_the_row_as_the_database_has_it(self):
        order = Order.objects.create()
        Order.objects.filter(pk=order.pk).update(payment_id="p1")

        assert step(order) == "paid"

    def test_none_where_the_row_stays(self):
        order = Order.objects.create()

        assert step(order) is None
        assert order.state == "new"
        assert order.state_next is not None
        assert order.state_next > clock.now()

    def test_does_not_ask_whether_the_row_is_due(self):
        order = Order.objects.create()
        step(order)
        Order.objects.filter(pk=order.pk).update(payment_id="p1")

        assert step(order) == "paid"

    def test_takes_a_timeout(self):
        order = Order.objects.create()

        with travel(seconds=3601):
            assert step(order) == "failed"

    def test_raises_what_the_check_raises(self):
        row = Trouble.objects.create(mode="raise")

        with pytest.raises(RuntimeError, match="the moon is in the wrong house"):
            step(row)

        assert row.state_failures == 1

    def test_on_request_does_not_raise(self):
        row = Trouble.objects.create(mode="raise")

        assert step(row, raise_failures=False) is None
        assert row.state_failures == 1

    def test_a_row_that_is_gone(self):
        row = Trouble.objects.create(mode="delete_itself")

        assert step(row) is None
        with pytest.raises(Trouble.DoesNotExist):
            step(row)

    def test_a_row_that_a_manager_hides_moves(self):
        row = Hidden.objects.create(visible=False)

        assert step(row) == "done"
        assert row.state == "done"


class TestAssertPath(TestCase):
    def test_states_and_names(self):
        row = Trouble.objects.create()
        step(row)

        assert_path(row, [TroubleStates.new, "done"])

    def test_its_message_shows_expected_and_actual_path(self):
        order = Order.objects.create(payment_id="p1")
        run_until_idle(Order)

        with pytest.raises(AssertionError) as caught:
            assert_path(order, ["new", "shipped"])

        assert str(caught.value) == (
            f"testapp.Order {order.pk} went another way than expected.\n"
            "expected: new → shipped\n"
            "  actual: new → paid → shipped"
        )

    def test_message_names_the_failure(self):
        row = Trouble.objects.create(mode="raise")
        run_until_idle(Trouble, raise_failures=False)

        with pytest.raises(AssertionError) as caught:
            assert_path(row, [])

        assert str(caught.value) == (
            f"tests.Trouble {row.pk} went another way than expected.\n"
            "expected: (none)\n"
            "  actual: new\n"
            " failing: RuntimeError: the moon is in the wrong house"
        )

    def test_moves_by_hand_are_seen(self):
        order = Order.objects.create()

        order.state_transition("paid")
        run_until_idle(Order)
        order.refresh_from_db()
        order.state_transition("failed")

        assert_path(order, ["new", "paid", "shipped", "failed"])

    def test_a_history_knows_every_move(self):
        row = Trouble.objects.create()

        for state in ("patient", "waiting", "new"):
            row.state_transition(state)
        run_until_idle(Trouble)

        assert_path(row, ["new", "patient", "waiting", "new", "done"])

    def test_a_rollback_takes_its_states_back(self):
        order = Order.objects.create(payment_id="p1")

        with transaction.atomic():
            run_until_idle(Order)
            transaction.set_rollback(True)

        assert_path(order, ["new"])

    def test_a_deleted_row_keeps_its_path(self):
        order = Order.objects.create(payment_id="p1")
        run_until_idle(Order)
        Order.objects.all().delete()

        assert_path(order, ["new", "paid", "shipped"])

    def test_a_key_that_is_used_again(self):
        Order.objects.create(pk=77, payment_id="p1")
        run_until_idle(Order)
        Order.objects.all().delete()
        order = Order.objects.create(pk=77)

        assert_path(order, ["new"])


class RolledBack:
    """Two tests that use the same key, in either order, without telling the kit of the insert."""

    def insert(self):
        Chain.objects.bulk_create([Chain(pk=88, logged=False)])
        return Chain.objects.get(pk=88)

    def test_a_row_moved_all_its_way_has_only_its_own_path(self):
        row = self.insert()

        run_until_idle(Chain)

        assert_path(row, ["first", "second", "third", "last"])

    def test_a_row_moved_one_step_has_only_its_own_path(self):
        row = self.insert()

        step(row)

        assert_path(row, ["first", "second"])


class TestKeysUsedAgain(RolledBack, TestCase):
    pass


class TestRowsOfTheWholeClass(TestCase):
    """Rows made in ``setUpTestData`` begin anew with every test."""

    order: Order

    @classmethod
    def setUpTestData(cls):
        cls.order = Order.objects.create(payment_id="p1")

    def test_one_test_moves_the_row_all_its_way(self):
        run_until_idle(Order)

        assert_path(self.order, ["new", "paid", "shipped"])

    def test_another_test_finds_the_row_where_it_began(self):
        step(self.order)

        assert_path(self.order, ["new", "paid"])


class TestWithoutATransaction(TransactionTestCase):
    def test_runs_and_fails_there_too(self):
        order = Order.objects.create(payment_id="p1")
        refused = Trouble.objects.create(mode="break_constraint", value=13)

        run_until_idle(Order)
        with pytest.raises(IntegrityError):
            run_until_idle(Trouble)

        assert_path(order, ["new", "paid", "shipped"])
        assert_path(refused, ["new"])


class TestOtherDatabase(TestCase):
    databases = {"default", "other"}

    def test_using_runs_the_rows_of_that_database_only(self):
        here, there = Order(payment_id="p1"), Order(payment_id="p2")
        here.save()
        there.save(using="other")

        run_until_idle(Order, using="other")

        assert_path(here, ["new"])
        assert_path(there, ["new", "paid", "shipped"])

    def test_step_follows_the_row(self):
        there = Order.objects.using("other").create(payment_id="p2")

        assert step(there) == "paid"


class TestTravel(TestCase):
    def test_retries_become_due(self):
        order = Order.objects.create()
        run_until_idle(Order)

        with travel(seconds=20):
            assert run_until_idle(Order) == 0
        with travel(seconds=31):
            assert run_until_idle(Order) == 1

        assert_path(order, ["new"])

    def test_timeouts_fire_in_manual_states(self):
        row = Trouble.objects.create(mode="to_waiting")
        run_until_idle(Trouble)

        with travel(timedelta(seconds=31)):
            run_until_idle(Trouble)

        assert_path(row, ["new", "waiting", "failed"])

    def test_rows_expire_by_the_travelled_time(self):
        Order.objects.create(payment_id="p1")
        run_until_idle(Order)

        assert Order.state_do_deletes() == 0
        with travel(timedelta(days=31)):
            assert Order.state_do_deletes() == 1

    def test_travels_add_up_and_may_go_back(self):
        with travel(seconds=10) as further:
            further(seconds=20)
            further(timedelta(seconds=30))
            assert clock.travelled() == timedelta(seconds=60)
            with travel(seconds=-5):
                assert clock.travelled() == timedelta(seconds=55)
            assert clock.travelled() == timedelta(seconds=60)

        assert clock.travelled() == timedelta(0)

    def test_ends_with_the_block_whatever_happens(self):
        with pytest.raises(RuntimeError), travel(seconds=10):
            raise RuntimeError

        assert clock.travelled() == timedelta(0)

    @travel(seconds=60)
    def test_it_decorates_a_function(self):
        assert clock.travelled() == timedelta(seconds=60)

    def test_the_database_travels_along(self):
        BasicModel.objects.create(state="pending_delete")

        assert BasicModel.state_count_pending() == 0
        with travel(seconds=6):
            assert BasicModel.state_count_pending() == 1

    def test_needs_one_duration(self):
        message = r"travel\(\) takes either a timedelta or seconds: travel\(seconds=60\)\."

        with pytest.raises(TypeError, match=message), travel():
            pass
        with pytest.raises(TypeError, match=message), travel(timedelta(1), seconds=1):
            pass


class TestAutocommit(TransactionTestCase):
    def test_it_keeps_the_connection_of_the_test(self):
        Order.objects.create(payment_id="p1")
        before = connection.connection

        run_until_idle(Order)

        assert connection.connection is before
