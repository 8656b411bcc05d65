"""What a sweep writes on the rows it moves, and which it leaves alone."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models import BooleanField, F, Q
from django.db.models.expressions import Func

from django_fsmworker import clock
from django_fsmworker.graph import State, StateGraph
from django_fsmworker.store import store_for
from django_fsmworker.store.sweeps import Window, movable, rows_in
from tests.app.models import Delivery, Endpoint, NoopStates, TextKey
from tests.database.plans import renew_files
from tests.database.rows import FUTURE, PAST, fetch, put, statements
from tests.database.sweeps import GONE, HELD, PENDING, guard, sweep, window_of, windows
from tests.waiting import eventually

pytestmark = pytest.mark.django_db


@pytest.fixture
def row():
    return Delivery.objects.create(state="held", amount=5)


def held(number, **fields):
    """So many rows in ``held``, in the order of their keys."""
    rows = Delivery.objects.bulk_create([Delivery(state="held", **fields) for _ in range(number)])
    return sorted(rows, key=lambda row: row.pk)


class TestWritten:
    def test_a_row_that_enters_a_terminal_state_is_never_due(self, row):
        put(row, state_changed=PAST)

        assert sweep(Q()) == {row.pk}

        now = fetch(row)
        assert (now.state, now.state_next, now.state_failures) == ("gone", None, 0)
        assert (now.state_lease, now.state_claim) == (None, None)
        assert abs((now.state_changed - clock.now()).total_seconds()) < 60

    def test_a_target_that_is_due_at_once(self, row):
        rows = rows_in(Delivery, HELD, "default")

        store_for("default").sweep(movable(rows, guard(Q(), target=PENDING)), PENDING)

        now = fetch(row)
        assert now.state == "pending"
        assert abs((now.state_next - now.state_changed).total_seconds()) < 0.01

    def test_a_target_that_is_due_later(self, row):
        """In ``held`` there is nothing to do but its timeout."""
        put(row, state="pending")
        rows = rows_in(Delivery, PENDING, "default")

        store_for("default").sweep(movable(rows, guard(Q(), PENDING, HELD)), HELD)

        now = fetch(row)
        assert abs((now.state_next - now.state_changed).total_seconds() - 600) < 0.01

    def test_the_history_gets_state_and_time(self, row):
        sweep(Q())

        now = fetch(row)
        assert [state for state, _ in now.state_history] == ["held", "gone"]
        assert now.state_history[1][1][:19] == now.state_changed.isoformat()[:19]

    def test_a_row_without_a_history_moves(self):
        row = TextKey.objects.create(code="it's 100 %")
        edge = guard(Q(), NoopStates.new, NoopStates.done)

        moved = store_for("default").sweep(
            movable(rows_in(TextKey, NoopStates.new, "default"), edge), NoopStates.done
        )

        assert moved == {"it's 100 %"}
        assert fetch(row).state == "done"

    def test_a_lapsed_claim_is_taken_away(self, row):
        put(row, state_claim=4, state_lease=PAST, state_next=PAST)

        assert sweep(Q()) == {row.pk}
        assert (fetch(row).state_claim, fetch(row).state_lease) == (None, None)

    @pytest.mark.django_db(databases=["default", "other"])
    def test_only_rows_of_the_named_database_move(self, row):
        there = Delivery(state="held")
        there.save(using="other")

        moved = sweep(Q(), rows_in(Delivery, HELD, "other"), using="other")

        assert moved == {there.pk}
        assert fetch(there, "other").state == "gone"
        assert fetch(row).state == "held"

    def test_the_time_of_entry_is_the_travelled_one(self, row):
        clock.travel(timedelta(hours=5))
        try:
            sweep(Q())
        finally:
            clock.travel(-timedelta(hours=5))

        assert (fetch(row).state_changed - clock.now()).total_seconds() > 4 * 3600


class TestLeftAlone:
    @pytest.mark.parametrize(
        "columns",
        [
            {"state": "pending"},
            {"state_claim": 4, "state_lease": FUTURE},
            {"state_failures": 1},
        ],
        ids=["in another state", "leased", "failing"],
    )
    def test_such_rows_keep_every_column(self, row, columns):
        put(row, **columns)
        before = fetch(row).__dict__

        assert sweep(Q()) == set()

        after = fetch(row).__dict__
        assert {**after, "_state": None} == {**before, "_state": None}

    def test_what_no_guard_is_true_of_is_not_written(self, row):
        with statements() as sent:
            assert sweep(Q(amount=6)) == set()

        assert fetch(row).state_changed == row.state_changed
        if connection.vendor == "sqlite":
            assert [sql.split()[0] for sql, _ in sent] == ["SELECT"]

    def test_a_condition_that_is_never_true(self, row):
        assert sweep(Q(pk__in=[])) == set()

    def test_rows_younger_than_start_after_wait(self, row):
        class LateStates(StateGraph):
            new = State(start_after=60)
            done = State()
            new.transitions_to(done, when=Q())

        edge = guard(Q(), LateStates.new, GONE)
        rows = rows_in(Delivery, HELD, "default")
        put(row, state_changed=timedelta(seconds=-30))
        assert store_for("default").sweep(movable(rows, edge), GONE) == set()

        put(row, state_changed=timedelta(seconds=-90))
        assert store_for("default").sweep(movable(rows, edge), GONE) == {row.pk}


class TestWindows:
    @pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 5, 7])
    def test_every_row_is_in_one(self, number):
        rows, all_held = held(number), rows_in(Delivery, HELD, "default")
        Delivery.objects.create(state="pending")

        found = [window.of(all_held).order_by("pk") for window in windows(all_held, 3)]

        assert all(window.count() == 3 for window in found[:-1])
        assert [row for window in found for row in window] == rows

    def test_without_rows_there_is_none(self):
        assert window_of(rows_in(Delivery, HELD, "default"), None, 3) is None

    def test_rows_that_come_behind_are_left_for_the_next_sweep(self):
        held(2)
        window = window_of(rows_in(Delivery, HELD, "default"), None, 3)
        held(1)

        assert window is not None
        assert window.last
        assert window.of(rows_in(Delivery, HELD, "default")).count() == 2

    @pytest.mark.parametrize("number", [2, 3, 5, 8])
    def test_two_halves_are_the_whole(self, number):
        rows, all_held = held(number), rows_in(Delivery, HELD, "default")
        window = window_of(all_held, None, 100)
        assert window is not None

        first, second = (
            list(half.of(all_held).order_by("pk"))
            for half in window.halves(store_for("default"), all_held)
        )

        assert first + second == rows
        assert len(first) == number // 2

    def test_one_row_cannot_be_halved(self):
        (row,) = held(1)

        assert (
            Window(None, row.pk).halves(store_for("default"), rows_in(Delivery, HELD, "default"))
            == []
        )


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
class TestConcurrent:
    """Other connections change rows while a sweep is under way."""

    SECRET = 4711

    @pytest.fixture
    def rows(self):
        # As they lie in the table the sweep comes to them: not into room that others have left.
        renew_files(Delivery)
        endpoint = Endpoint.objects.create(paused=True)
        return held(3, endpoint=endpoint, amount=5)

    def waiting_at(self, row):
        """A condition that is true of every row; at this one it waits for ``SECRET``."""
        return Func(
            F("pk"),
            template=(
                f"(CASE WHEN %(expressions)s = {row.pk} "
                f"THEN pg_advisory_xact_lock_shared({self.SECRET})::text IS NOT NULL ELSE true END)"
            ),
            output_field=BooleanField(),
        )

    @pytest.fixture
    def sweep_meeting(self, rows, start_thread):
        """``sweep_meeting(when, change)``: the sweep has begun, and stands at the first row, when
        ``change()`` is made and committed."""

        def meet(when, change):
            hold_up = self.waiting_at(rows[0])
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_lock(%s)", [self.SECRET])
                thread = start_thread(lambda: sweep(Q(hold_up) & when))
                self.wait_until_it_waits(cursor)
                change()
                cursor.execute("SELECT pg_advisory_unlock(%s)", [self.SECRET])
            return thread.result()

        return meet

    @staticmethod
    def wait_until_it_waits(cursor):
        def somebody_waits():
            cursor.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            return cursor.fetchone()

        eventually(somebody_waits, 30)

    def test_a_row_that_has_moved_is_not_moved_again(self, rows, sweep_meeting):
        moved = sweep_meeting(
            Q(endpoint__paused=True), lambda: rows[1].state_transition("delivered")
        )

        assert moved == {rows[0].pk, rows[2].pk}
        assert fetch(rows[1]).state == "delivered"
        assert [state for state, _ in fetch(rows[1]).state_history] == ["held", "delivered"]

    def test_a_row_that_went_round_waits_for_the_next_sweep(self, rows, sweep_meeting):

        def change():
            rows[1].state_transition("pending")
            rows[1].state_transition("held")

        moved = sweep_meeting(Q(endpoint__paused=True), change)

        assert moved == {rows[0].pk, rows[2].pk}
        assert [state for state, _ in fetch(rows[1]).state_history] == ["held", "pending", "held"]
        assert sweep(Q(endpoint__paused=True)) == {rows[1].pk}

    def test_the_guard_is_asked_about_the_row_as_it_is_now(self, rows, sweep_meeting):
        moved = sweep_meeting(
            Q(amount=5, endpoint__paused=True),
            lambda: Delivery.objects.filter(pk=rows[1].pk).update(amount=6),
        )

        assert moved == {rows[0].pk, rows[2].pk}
        assert fetch(rows[1]).state == "held"

    def test_a_row_that_was_claimed_meanwhile(self, rows, sweep_meeting):
        moved = sweep_meeting(
            Q(endpoint__paused=True),
            lambda: put(rows[1], state_claim=4, state_lease=FUTURE),
        )

        assert moved == {rows[0].pk, rows[2].pk}

    def test_a_bare_update_over_a_join_would_move_it_again(self, rows, start_thread):
        """Why a sweep locks first: this is what Django's ``update()`` does."""
        other = rows[1]
        with transaction.atomic():
            Delivery.objects.select_for_update().get(pk=other.pk)
            thread = start_thread(
                lambda: Delivery.objects.filter(state="held", endpoint__paused=True).update(
                    state="gone"
                )
            )
            self.wait_for_a_lock()
            Delivery.objects.filter(pk=other.pk).update(state="delivered")
        thread.result()

        assert fetch(other).state == "gone"

    @staticmethod
    def wait_for_a_lock():
        def somebody_waits():
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_locks WHERE NOT granted")
                return cursor.fetchone()

        eventually(somebody_waits, 30)

    def test_locked_rows_are_skipped_at_once(self, rows, start_thread):
        locked, release = threading.Event(), threading.Event()

        def hold():
            with transaction.atomic():
                Delivery.objects.select_for_update().get(pk=rows[1].pk)
                locked.set()
                assert release.wait(60)

        thread = start_thread(hold)
        assert locked.wait(30)
        try:
            assert sweep(Q(endpoint__paused=True)) == {rows[0].pk, rows[2].pk}
        finally:
            release.set()
        thread.result()
        assert sweep(Q(endpoint__paused=True)) == {rows[1].pk}

    def test_locked_related_rows_are_no_hindrance(self, rows, start_thread):
        locked, release = threading.Event(), threading.Event()

        def hold():
            with transaction.atomic():
                Endpoint.objects.select_for_update().get()
                locked.set()
                assert release.wait(60)

        thread = start_thread(hold)
        assert locked.wait(30)
        try:
            assert len(sweep(Q(endpoint__paused=True))) == 3
        finally:
            release.set()
        thread.result()
