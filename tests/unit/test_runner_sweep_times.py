"""When a state is swept: by its interval, sooner if asked, and never without a pause."""

from __future__ import annotations

import pytest

from django_fsmworker.runner.guards import schedule
from django_fsmworker.runner.guards.schedule import REST, SweepSchedule


class Clock:
    """``time`` as the module sees it; a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(schedule, "time", clock)
    monkeypatch.setattr(schedule, "jittered", lambda seconds: seconds)
    return clock


@pytest.fixture
def times(clock):
    return SweepSchedule(60.0)


def sweep(times, clock, seconds):
    times.begin()
    clock.now += seconds
    times.worked(seconds)
    times.end()


def test_the_first_sweep_is_due_at_once(times, clock):
    assert times.due_at < clock.now


def test_then_one_every_interval_counted_from_beginning_to_beginning(times, clock):
    sweep(times, clock, 0.5)

    assert times.due_at == 1060


def test_a_long_one_is_followed_by_as_long_a_pause(times, clock):
    sweep(times, clock, 45)

    assert times.due_at == 1045 + 45


def test_asked_for_after_a_short_one(times, clock):
    sweep(times, clock, 0.01)

    times.ask()

    assert times.due_at == pytest.approx(1000.01 + REST * 0.01)


def test_asked_for_after_a_long_one_it_is_not_sooner_than_it_would_be(times, clock):
    sweep(times, clock, 10)

    times.ask()

    assert times.due_at == 1060


def test_asked_for_while_one_is_under_way(times, clock):
    times.begin()
    times.ask()
    clock.now += 0.1
    times.worked(0.1)
    times.end()

    assert times.due_at == pytest.approx(1000.1 + REST * 0.1)


def test_what_was_asked_for_is_done_with_the_sweep_that_begins(times, clock):
    sweep(times, clock, 0.01)
    times.ask()
    sweep(times, clock, 0.01)

    assert times.due_at == pytest.approx(1060.01)


def test_only_the_time_spent_on_windows_counts(times, clock):
    """Other states have their turns in between."""
    times.begin()
    clock.now += 10
    times.worked(0.01)
    times.end()
    times.ask()

    assert times.due_at == pytest.approx(1010 + REST * 0.01)


def test_until_the_database_is_back(times, clock):
    times.begin()
    times.ask()

    times.rest_until(1005)

    assert times.due_at == 1005
