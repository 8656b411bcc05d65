"""Low-water marks on a real database: what they spare, and that they lose nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from django_fsmworker import clock
from django_fsmworker.store import Lane, store_for
from tests.app.models import Chain, Noop
from tests.runner.lone_claimer import LoneClaimer
from tests.runner.rows import lapse, states

pytestmark = pytest.mark.django_db(transaction=True)

MANY, BATCH = 20_000, 1000
LEASE = 3.0  # scans from the start come every half second

Travel = Callable[[float], None]


def fill(number: int, state: str = "new", model: Any = Noop, since: float = 7200.0) -> None:
    """Rows that came due one after the other, a millisecond apart, since so long ago."""
    start = clock.now() - timedelta(seconds=since)
    model.objects.bulk_create(
        (
            model(state=state, state_next=start + timedelta(milliseconds=position))
            for position in range(number)
        ),
        batch_size=10_000,
    )


def put(row: Any, due: float) -> None:
    """Let the row be due in so many seconds, whatever it was before."""
    moment = clock.now() + timedelta(seconds=due)
    type(row).objects.filter(pk=row.pk).update(state_next=moment)


def busy_until_found(claiming: LoneClaimer, pk: Any) -> None:
    """Go round, with a lane that never runs empty, until the row is claimed.

    That is at the next look from the lane's start, which is a sixth of a lease after the last.
    """
    lane, give_up = claiming.book("new"), time.monotonic() + 60
    scanned = lane.scanned
    while pk not in claiming.round():
        assert lane.scanned == scanned, "it was looked from the start, and the row was not claimed"
        assert lane.asked - scanned < LEASE / 6, "it was time to look from the start"
        assert time.monotonic() < give_up
        Noop.objects.filter(state="done").exclude(pk=pk).update(state="new", state_next=clock.now())


@pytest.mark.postgresql
class TestDeadEntries:
    """20,000 rows that have moved on, whose index entries an old snapshot keeps."""

    @pytest.fixture
    def old_snapshot(self, start_thread: Callable[..., Any]) -> Iterator[None]:
        with _snapshot(start_thread):
            yield

    def buffers(self, lane: Lane) -> int:
        from tests.database.plans import explained

        return explained(store_for("default").claim, Noop, [lane], LEASE).buffers

    def test_a_drain_leaves_the_lane_as_cheap_as_it_was(self, old_snapshot: None) -> None:
        fill(MANY + 10)
        claiming = LoneClaimer(Noop, "done", room=2 * BATCH, lease=600)
        drained = 0
        while drained < MANY:
            drained += len(claiming.round())
        fill(10, since=60)

        lane = claiming.next_look("new", 10)

        assert lane.since is not None
        assert self.buffers(lane) <= 200
        assert self.buffers(Lane("new", 10)) >= 1000

    def test_a_lane_that_is_woken_row_by_row_does_not_walk_over_them(
        self, old_snapshot: None
    ) -> None:
        fill(MANY // 4)
        claiming = LoneClaimer(Noop, "done", room=2 * BATCH, lease=600)
        claiming.drain()
        looks = []

        for _ in range(5):
            Noop.objects.create()
            claiming.claimer.lanes.wake(Noop, "new", 0)
            looks.append(self.buffers(claiming.next_look("new", 10)))
            assert claiming.drain() == 1

        assert max(looks) <= 200


@contextmanager
def _snapshot(start_thread: Callable[..., Any]) -> Iterator[None]:
    """Another connection that goes on seeing the table as it is now."""
    begun, over = threading.Event(), threading.Event()

    def look() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT count(*) FROM tests_noop")
            begun.set()
            over.wait(60)

    thread = start_thread(look)
    assert begun.wait(30)
    try:
        yield
    finally:
        over.set()
        thread.result()


class TestBelowTheMark:
    def claiming(self, batch: int = 20) -> LoneClaimer:
        """A lane with a mark a few seconds ago, and more rows than it takes at once."""
        fill(200, since=60)
        claiming = LoneClaimer(Noop, "done", room=2 * batch, lease=LEASE, poll_interval=0.2)
        claiming.round()
        claiming.round()
        assert claiming.book("new").mark is not None
        return claiming

    def test_a_row_that_appears_there_is_claimed_within_a_sixth_of_a_lease(self) -> None:
        claiming = self.claiming()
        row = Noop.objects.create()
        put(row, due=-3600)

        busy_until_found(claiming, row.pk)

    @pytest.mark.postgresql  # SQLite has one writer: nobody else settles meanwhile
    @pytest.mark.mysql
    def test_a_transaction_that_commits_late_loses_nothing(
        self, start_thread: Callable[..., Any], travel: Travel
    ) -> None:
        claiming = self.claiming()
        written, commit = threading.Event(), threading.Event()
        row = Noop.objects.create(state="done")

        def write() -> None:
            with transaction.atomic():
                Noop.objects.filter(pk=row.pk).update(state="new", state_next=clock.now())
                written.set()
                commit.wait(60)

        thread = start_thread(write)
        assert written.wait(30)
        travel(60)
        fill(200, since=5)
        claiming.drain()
        fill(200, since=5)
        claiming.claimer.lanes.wake(Noop, "new", 0)
        claiming.round()
        mark = claiming.book("new").mark
        commit.set()
        thread.result()

        due = Noop.objects.get(pk=row.pk).state_next
        assert mark is not None
        assert due is not None
        assert mark > due
        busy_until_found(claiming, row.pk)

    def test_rows_whose_process_died_are_rescued(self) -> None:
        claiming = self.claiming()
        row = Noop.objects.create()
        lapse([row])
        Noop.objects.filter(pk=row.pk).update(state_next=clock.now() - timedelta(hours=1))

        busy_until_found(claiming, row.pk)

    def test_a_lane_that_sleeps_is_woken_by_the_poll(self, eventually: Callable[..., Any]) -> None:
        claiming = self.claiming()
        claiming.drain()
        row = Noop.objects.create()
        put(row, due=-3600)

        eventually(lambda: claiming.drain() == 1, 30)

        assert states([row]) == ["done"]

    @pytest.mark.parametrize("back", [-5.0, -3600.0])
    def test_a_clock_that_is_put_back(
        self, back: float, travel: Travel, eventually: Callable[..., Any]
    ) -> None:
        claiming = self.claiming()
        claiming.drain()

        travel(back)
        row = Noop.objects.create(state_next=clock.now() - timedelta(seconds=1))

        eventually(lambda: claiming.drain() == 1, 30)
        assert states([row]) == ["done"]


class TestFairness:
    def test_many_due_rows_of_one_state_do_not_starve_ten_of_another(self) -> None:
        fill(2_000, "first", Chain)
        fill(10, "third", Chain, since=1)
        claiming = LoneClaimer(Chain, "last", room=100)

        claiming.round()

        assert not Chain.objects.filter(state="third").exists()
        assert Chain.objects.filter(state="first").count() > 1_900


class TestSinglePass:
    def test_leaves_what_came_due_after_its_start(self, travel: Travel) -> None:
        fill(100)
        Noop.objects.create(state_next=clock.now() + timedelta(seconds=30))
        claiming = LoneClaimer(Noop, "done", room=40)

        claiming.claimer.only_what_is_due_now()
        travel(60)
        found = 0
        while not claiming.claimer.exhausted:
            found += len(claiming.round())

        assert found == 100
        assert Noop.objects.filter(state="new").count() == 1
