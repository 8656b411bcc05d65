"""Lines of the log that are told once, and then counted."""

from __future__ import annotations

import pytest

from django_fsmworker.runner.execution import flood
from django_fsmworker.runner.execution.flood import Flood


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines(clock: Clock) -> Flood:
    return Flood(60.0, clock)


def summed(lines: Flood, *, all: bool = False) -> list[tuple[str, int, str]]:
    return [(each.cause, each.more, each.latest) for each in lines.over(all=all)]


def test_the_first_of_a_cause_is_told(lines: Flood) -> None:
    assert [lines.lets_pass(cause, "") for cause in "abab"] == [True, True, False, False]


def test_a_cause_may_have_several_lines(lines: Flood) -> None:
    assert [lines.lets_pass("a", "", most=2) for _ in range(3)] == [True, True, False]


def test_the_others_are_summed_up_when_the_window_is_over(lines: Flood, clock: Clock) -> None:
    for name in ("first", "second", "third"):
        lines.lets_pass("a", name)
    clock.now += 59.0
    assert summed(lines) == []

    clock.now += 1.0

    assert summed(lines) == [("a", 2, "third")]
    assert summed(lines) == []


def test_a_cause_that_was_told_once_is_not_summed_up(lines: Flood, clock: Clock) -> None:
    lines.lets_pass("a", "first")
    clock.now += 60.0

    assert summed(lines) == []


def test_the_next_window_begins_with_a_line(lines: Flood, clock: Clock) -> None:
    lines.lets_pass("a", "first")
    clock.now += 60.0
    lines.over()

    assert lines.lets_pass("a", "again")


def test_at_the_end_all_are_summed_up(lines: Flood) -> None:
    for cause in "aabb":
        lines.lets_pass(cause, cause)

    assert summed(lines, all=True) == [("a", 1, "a"), ("b", 1, "b")]


def test_the_causes_that_are_remembered_are_bounded(
    lines: Flood, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flood, "MOST_CAUSES", 2)
    for cause in "aabbcc":
        lines.lets_pass(cause, cause)

    assert summed(lines) == [("a", 1, "a")]
