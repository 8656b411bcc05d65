"""Several connections at once: nobody waits for a row that somebody else has locked."""

from __future__ import annotations

import random
import threading
import time

import pytest
from django.db import OperationalError, connection, transaction

from django_fsmworker.store import store_for
from django_fsmworker.store.errors import is_contention
from testapp.models import Order
from tests.app.models import Noop, Trouble
from tests.database.rows import LEASE, claim, fence, fetch, lanes, moved, put, stayed

pytestmark = pytest.mark.django_db(transaction=True)

WAITING = {
    "postgresql": "SELECT count(*) FROM pg_locks WHERE NOT granted",
    "mysql": "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'",
}


@pytest.fixture
def store():
    return store_for("default")


class Lock:
    """``lock(row)``: another connection holds the row locked until ``let_go()``.

    If somebody waits for that row, it is never called, or too late: the test fails.
    """

    def __init__(self, start_thread):
        self._start = start_thread
        self._release = threading.Event()
        self._threads = []

    def __call__(self, row):
        locked = threading.Event()
        self._threads.append(self._start(self._hold, type(row), row.pk, locked))
        assert locked.wait(30)

    def let_go(self):
        self._release.set()
        for thread in self._threads:
            thread.result()

    def _hold(self, model, pk, locked):
        with transaction.atomic():
            model.objects.select_for_update().get(pk=pk)
            locked.set()
            assert self._release.wait(30), "somebody has waited for the row"


@pytest.fixture
def lock(start_thread):
    lock = Lock(start_thread)
    yield lock
    lock.let_go()


def waiting():
    """How many transactions wait for a lock."""
    with connection.cursor() as cursor:
        cursor.execute(WAITING[connection.vendor])
        return int(cursor.fetchone()[-1])


@pytest.mark.postgresql
@pytest.mark.mysql
class TestLockedRows:
    """SQLite locks whole databases, not rows."""

    @pytest.fixture
    def rows(self):
        Order.objects.bulk_create([Order() for _ in range(20)])
        return claim(Order)

    def test_settle_writes_the_others_meanwhile(self, store, lock, rows):
        locked, others = rows[7], {row.pk for row in rows} - {rows[7].pk}
        outcomes = [moved(row, "paid") for row in rows]
        lock(locked)

        assert store.settle(Order, outcomes) == others

        assert store.still_held(Order, [fence(row) for row in rows]) == {locked.pk}
        lock.let_go()
        assert store.settle(Order, [outcomes[7]]) == {locked.pk}

    def test_renew_renews_the_others_meanwhile(self, store, lock, rows):
        lock(rows[0])

        renewed = store.renew(Order, [fence(row) for row in rows], 90)

        assert renewed == {row.pk for row in rows[1:]}

    def test_hand_back_frees_the_others_meanwhile(self, store, lock, rows):
        lock(rows[0])

        freed = store.hand_back(Order, [fence(row) for row in rows])

        assert freed == {row.pk for row in rows[1:]}

    def test_claim_takes_the_others_meanwhile(self, store, lock, rows):
        store.hand_back(Order, [fence(row) for row in rows])
        lock(rows[0])

        found = claim(Order)

        assert {row.pk for row in found} == {row.pk for row in rows[1:]}

    def test_a_locked_row_does_not_count_against_the_limit(self, store, lock, rows):
        store.hand_back(Order, [fence(row) for row in rows])
        lock(rows[0])

        assert len(claim(Order, 3)) == 3

    def test_still_held_and_peek_do_not_wait(self, store, lock, rows):
        lock(rows[0])

        assert store.still_held(Order, [fence(rows[0])]) == {rows[0].pk}
        store.peek({Order: lanes(Order)})

    def test_a_row_that_changes_while_it_is_locked_is_not_lost(self, store, start_thread, rows):
        """The user's transaction commits between the look at the row and its lock, or later."""
        row, stop = rows[0], threading.Event()

        def keep_saving():
            while not stop.is_set():
                Order.objects.filter(pk=row.pk).update(tracking=str(time.monotonic()))

        saving = start_thread(keep_saving)
        written = False
        for _ in range(2000):
            if written := store.settle(Order, [moved(row, "paid")]) == {row.pk}:
                break
            assert store.still_held(Order, [fence(row)]) == {row.pk}
        stop.set()
        saving.result()

        assert written
        assert fetch(row).state == "paid"

    def test_moving_a_queryset_waits_and_then_moves(self, lock, rows, start_thread):
        lock(rows[0])

        moving = start_thread(Order.state_transition_queryset, Order.objects.all(), "failed")
        lock.let_go()

        assert moving.result() == 20

    def test_moving_a_queryset_rechecks_its_condition(self, start_thread, eventually):
        """A row that had just moved is not moved again."""
        row, other = Order.objects.create(), Order.objects.create()
        rows = Order.objects.filter(state="new")
        with transaction.atomic():
            Order.objects.filter(pk=row.pk).update(state="paid")
            moving = start_thread(Order.state_transition_queryset, rows, "failed")
            sliced = start_thread(Order.state_transition_queryset, rows[:2], "failed")
            eventually(lambda: waiting() >= 2, 30)

        assert moving.result() + sliced.result() == 1
        assert (fetch(row).state, fetch(other).state) == ("paid", "failed")


@pytest.mark.postgresql
@pytest.mark.mysql
class TestDeadlocks:
    """One of two transactions has to give way: a move of rows that is nobody else's tries again."""

    @pytest.fixture
    def rows(self):
        return [Order.objects.create() for _ in range(2)]

    def test_a_move_is_tried_again(self, rows, start_thread, eventually):
        moving = self.crossed(rows, lambda: start_thread(self.move, rows), eventually)

        assert moving.result() == 2
        assert [fetch(row).state for row in rows] == ["failed", "failed"]

    def test_not_inside_a_transaction_of_the_callers(self, rows, start_thread, eventually):
        def move_in_a_transaction():
            with transaction.atomic():
                return self.move(rows)

        moving = self.crossed(rows, lambda: start_thread(move_in_a_transaction), eventually)

        with pytest.raises(OperationalError) as caught:
            moving.result()
        assert is_contention(caught.value)
        assert [fetch(row).state for row in rows] == ["new", "new"]

    def crossed(self, rows, start_moving, eventually):
        """A thread that moves the rows and had to give way to this one."""
        others = [Order.objects.create() for _ in range(50)]
        for _ in range(10):
            try:
                with transaction.atomic():
                    # InnoDB ends the one that has written less, PostgreSQL the one that looks
                    # first: a second after it began to wait, if this one wants a row by then.
                    Order.objects.filter(pk__in=[row.pk for row in others]).update(tracking="busy")
                    self.lock(rows[1])
                    moving = start_moving()
                    eventually(lambda: waiting() >= 1, 30)
                    self.lock(rows[0])
                return moving
            except OperationalError as error:  # it came too late, and was ended itself
                assert is_contention(error)
            assert moving.result() == 2
            for row in rows:
                put(row, state="new")
        raise AssertionError("each time it took this one more than a second to want the other row")

    @staticmethod
    def lock(row):
        Order.objects.select_for_update().get(pk=row.pk)

    @staticmethod
    def move(rows):
        some = Order.objects.filter(pk__in=[row.pk for row in rows])
        return Order.state_transition_queryset(some, "failed")


class TestTogether:
    """On every database."""

    def test_no_row_is_claimed_twice(self, start_thread):
        Noop.objects.bulk_create([Noop() for _ in range(400)])

        def claim_some():
            found = []
            while rows := self.patiently(claim, Noop, random.randint(1, 20)):
                found += [(row.pk, row.state_claim) for row in rows]
            return found

        claims = [start_thread(claim_some) for _ in range(4)]

        found = [each for thread in claims for each in thread.result()]
        assert len(found) == len({pk for pk, _ in found}) == 400
        assert dict(Noop.objects.values_list("pk", "state_claim")) == dict(found)

    def test_overlapping_batches_in_any_order_do_not_deadlock(self, store, start_thread):
        Trouble.objects.bulk_create([Trouble() for _ in range(200)])
        rows = claim(Trouble)

        def work(seed):
            order = random.Random(seed)
            for _ in range(15):
                some = order.sample(rows, 100)
                self.patiently(store.renew, Trouble, [fence(row) for row in some], LEASE)
                # As by several workers that each believe the rows to be theirs.
                some = order.sample(rows, 100)
                self.patiently(store.settle, Trouble, [stayed(row) for row in some])
                for row in some[:20]:
                    self.patiently(put, row, state_claim=row.state_claim)
                self.patiently(store.hand_back, Trouble, [fence(row) for row in some])
                self.patiently(
                    Trouble.state_transition_queryset,
                    Trouble.objects.filter(pk__in=[row.pk for row in some]),
                    "new",
                )

        for thread in [start_thread(work, seed) for seed in range(4)]:
            thread.result(100)

    def test_a_transition_is_committed_once(self, store, start_thread):
        """Four workers settle the same claim: each row is written by one of them."""
        Order.objects.bulk_create([Order() for _ in range(200)])
        rows = claim(Order)
        outcomes = [moved(row, "paid") for row in rows]

        def settle(seed):
            mine = random.Random(seed).sample(outcomes, 200)
            return [
                pk
                for start in range(0, 200, 50)
                for pk in self.patiently(store.settle, Order, mine[start : start + 50])
            ]

        workers = [start_thread(settle, seed) for seed in range(4)]
        written = [pk for thread in workers for pk in thread.result()]
        written += store.settle(Order, outcomes)

        assert sorted(written) == sorted(row.pk for row in rows)

    @staticmethod
    def patiently(function, *arguments, **options):
        """
        SQLite may say that it is busy, and InnoDB, once in a while, that locks of index entries
        crossed, which its manual has everybody prepare for; a runner tries again then.
        """
        for _ in range(50):
            try:
                return function(*arguments, **options)
            except OperationalError as error:
                if connection.vendor == "postgresql" or not is_contention(error):
                    raise
        raise AssertionError("busy all the time")


@pytest.mark.postgresql
def test_contention_is_told_from_outages_and_refusals(lock):
    from django_fsmworker.store.errors import is_outage, is_refusal
    from django_fsmworker.store.postgresql.errors import name_of

    row = Order.objects.create()
    lock(row)
    with pytest.raises(OperationalError) as caught, transaction.atomic():
        Order.objects.select_for_update(nowait=True).get(pk=row.pk)
    assert name_of(caught.value) == "55P03"
    assert is_contention(caught.value)
    assert not is_outage(caught.value)
    assert not is_refusal(caught.value)
    assert connection.is_usable()
