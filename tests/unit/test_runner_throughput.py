"""How many rows to hold, by the rate at which they are settled."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from django_fsmworker.runner.claiming.lanes import MOST_GROWTH, Prefetch

CONCURRENCY, MOST = 10, 2000

Pass = Callable[[float], None]


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Pass:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def passing(seconds: float) -> None:
        now[0] += seconds

    return passing


def measured(passing: Pass, steps: list[tuple[float, int]], lease: float = 30.0) -> int:
    """The target after so many rows were settled after so many seconds, again and again."""
    throughput, settled = Prefetch(CONCURRENCY, MOST, lease), 0
    for seconds, rows in steps:
        passing(seconds)
        settled += rows
        throughput.measured(settled)
    return throughput.target


def test_it_starts_with_what_runs_and_as_much_again(passing: Pass) -> None:
    assert measured(passing, []) == 2 * CONCURRENCY


def test_slow_checks_get_no_more(passing: Pass) -> None:
    assert measured(passing, [(1.0, 3), (1.0, 3)]) == 2 * CONCURRENCY


def test_a_second_of_work_is_held(passing: Pass) -> None:
    assert measured(passing, [(0.1, 15)]) == CONCURRENCY + 150


def test_but_no_more_than_a_quarter_of_a_lease(passing: Pass) -> None:
    assert measured(passing, [(0.1, 15)], lease=2.0) == CONCURRENCY + 75


def test_a_few_rows_in_a_moment_say_nothing(passing: Pass) -> None:
    assert measured(passing, [(0.001, 19)]) == 2 * CONCURRENCY


def test_a_whole_target_in_a_moment_lets_it_grow_so_much_at_once(passing: Pass) -> None:
    quick = (0.004, 2 * CONCURRENCY)

    assert measured(passing, [quick]) == MOST_GROWTH * 2 * CONCURRENCY
    assert measured(passing, [quick, (0.01, 200)]) == MOST


def test_there_is_a_cap_whatever_the_rate(passing: Pass) -> None:
    assert measured(passing, [(0.1, 2_000), (0.1, 20_000)]) == MOST


def test_it_shrinks_when_checks_get_slow(passing: Pass) -> None:
    assert measured(passing, [(0.1, 2_000), (1.0, 5)]) == 2 * CONCURRENCY


def test_an_idle_time_says_nothing_about_the_rate(passing: Pass) -> None:
    assert measured(passing, [(0.1, 15), (600.0, 0), (0.0, 0), (1.0, 300)]) == CONCURRENCY + 150
