"""What a lane remembers: its low-water mark, when to look from its start, when it wakes up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from django_fsmworker.runner.claiming import lanes
from django_fsmworker.runner.claiming.lanes import DOUBT, GRAIN, MOST_TIMES, SAFETY_LAG, LaneBook

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FULL_SCAN = 5.0


class Ticks:
    """``time.monotonic()``, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ticks]:
    ticks = Ticks()
    monkeypatch.setattr(lanes, "time", SimpleNamespace(monotonic=ticks))
    yield ticks


@pytest.fixture
def book(ticks: Ticks) -> LaneBook:
    return LaneBook("new")


def rows(*ages: float) -> list[Any]:
    """Rows that came due so many seconds before noon, the oldest first."""
    return [
        SimpleNamespace(state_next=NOON - timedelta(seconds=age))
        for age in sorted(ages, reverse=True)
    ]


def look(book: LaneBook, found: list[Any], limit: int = 2) -> datetime | None:
    """One claim at noon that finds so much; returns the mark from which it looked."""
    since = book.lane(limit, FULL_SCAN).since
    book.took(found, limit, NOON if found else None)
    return since


class TestMark:
    def test_the_first_look_is_from_the_start(self, book: LaneBook) -> None:
        assert book.lane(2, FULL_SCAN).since is None

    def test_is_the_last_row_of_a_full_claim(self, book: LaneBook) -> None:
        look(book, rows(60, 50))

        assert book.lane(2, FULL_SCAN).since == NOON - timedelta(seconds=50)

    def test_stays_a_safety_lag_behind_the_clock(self, book: LaneBook) -> None:
        look(book, rows(60, 1))

        assert book.lane(2, FULL_SCAN).since == NOON - SAFETY_LAG

    def test_is_kept_while_the_lane_sleeps(self, book: LaneBook) -> None:
        """A lane that is woken row by row does not walk over its dead entries each time."""
        look(book, rows(60))
        book.wake(0)

        assert look(book, rows(1)) is not None
        assert book.lane(2, FULL_SCAN).since == NOON - SAFETY_LAG

    def test_a_lane_that_was_seen_to_its_end_has_one_too(self, book: LaneBook) -> None:
        """The database's time is known from another lane's rows."""
        book.lane(2, FULL_SCAN)
        book.took([], 2, NOON)

        assert book.lane(2, FULL_SCAN).since == NOON - SAFETY_LAG

    def test_nothing_found_anywhere_tells_no_time(self, book: LaneBook) -> None:
        look(book, [])

        assert book.lane(2, FULL_SCAN).since is None

    def test_goes_back_with_the_database_s_clock(self, book: LaneBook) -> None:
        look(book, rows(60, 50))
        book.lane(2, FULL_SCAN)
        book.took(rows(3660, 3650), 2, NOON - timedelta(hours=1))

        assert book.lane(2, FULL_SCAN).since == NOON - timedelta(seconds=3650)


class TestFromTheStart:
    def test_at_the_latest_after_the_interval(self, book: LaneBook, ticks: Ticks) -> None:
        looks = []
        for _ in range(24):
            looks.append(look(book, rows(60, 50)) is None)
            ticks.now += 0.5

        assert [number for number, from_start in enumerate(looks) if from_start] == [0, 10, 20]

    def test_at_once_when_a_look_from_the_mark_found_nothing(
        self, book: LaneBook, ticks: Ticks
    ) -> None:
        look(book, rows(60, 50))
        ticks.now += DOUBT

        looks = [(look(book, []) is None, book.active) for _ in range(2)]

        assert looks == [(False, True), (True, False)]

    def test_a_second_after_the_last_time_at_the_soonest(
        self, book: LaneBook, ticks: Ticks
    ) -> None:
        look(book, rows(60, 50))
        ticks.now += 0.2
        look(book, [])

        asleep = not book.active
        due = book.next_due - ticks.now
        ticks.now += DOUBT
        book.tick(ticks.now)

        assert asleep
        assert due == pytest.approx(DOUBT - 0.2, abs=2 * GRAIN)
        assert look(book, []) is None

    def test_again_when_the_claim_did_not_go_through(self, book: LaneBook, ticks: Ticks) -> None:
        look(book, rows(60, 50))
        ticks.now += FULL_SCAN
        book.lane(2, FULL_SCAN)
        ticks.now += 0.1

        assert look(book, rows(60, 50)) is None

    def test_a_row_that_was_found_there_moves_the_mark_on(
        self, book: LaneBook, ticks: Ticks
    ) -> None:
        look(book, rows(60, 50))
        ticks.now += DOUBT
        look(book, [])
        look(book, rows(70))

        assert not book.doubtful
        assert book.mark == NOON - SAFETY_LAG


class TestSleep:
    def test_less_than_asked_puts_it_to_sleep(self, book: LaneBook) -> None:
        look(book, rows(60))

        assert not book.active

    def test_as_much_as_asked_keeps_it_awake(self, book: LaneBook) -> None:
        look(book, rows(60, 50))

        assert book.active

    def test_woken_while_its_claim_is_under_way_it_stays_awake(self, book: LaneBook) -> None:
        book.lane(2, FULL_SCAN)
        book.wake(0)
        book.took(rows(60), 2, NOON)

        assert book.active

    def test_a_wake_up_counts_for_one_claim(self, book: LaneBook) -> None:
        book.wake(0)
        look(book, rows(60))

        assert not book.active

    def test_a_due_time_that_comes_during_a_claim_counts_too(
        self, book: LaneBook, ticks: Ticks
    ) -> None:
        book.wake(1)
        book.lane(2, FULL_SCAN)
        book.tick(ticks.now + 2)
        book.took([], 2, None)

        assert book.active


class TestDueTimes:
    def test_all_are_remembered_whatever_their_order(self, book: LaneBook, ticks: Ticks) -> None:
        look(book, [])
        for delay in (30, 10, 20):
            book.wake(delay)

        woken = []
        for _ in range(40):
            ticks.now += 1
            book.tick(ticks.now)
            if book.active:
                woken.append(ticks.now - 1000)
                look(book, [])
        assert woken == [11, 21, 31]

    def test_never_wakes_before_the_row_is_due(self, book: LaneBook, ticks: Ticks) -> None:
        book.wake(0.31)

        assert 0.31 <= book.next_due - ticks.now <= 0.31 + GRAIN

    def test_a_thousand_rows_with_one_delay_are_few_times(
        self, book: LaneBook, ticks: Ticks
    ) -> None:
        for _ in range(1000):
            book.wake(60)
            ticks.now += 0.0001

        assert len(book.upcoming) <= 0.1 / GRAIN + 1

    def test_the_earliest_are_kept(self, book: LaneBook, ticks: Ticks) -> None:
        for delay in range(1000, 0, -1):
            book.wake(delay)

        assert len(book.upcoming) == MOST_TIMES
        assert book.next_due == pytest.approx(ticks.now + 1, abs=2 * GRAIN)

    def test_none_are_none(self, book: LaneBook) -> None:
        assert book.next_due == float("inf")
