"""The pace of states: what one runner counts, and what several tell together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from django_fsmworker.models.pace import BOUNDS, Pace
from django_fsmworker.runner import pace
from django_fsmworker.runner.pace import Paces
from tests.app.models import Noop


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def settle(paces: Paces, number: int, seconds: float | None = 0.1) -> None:
    ended = None if seconds is None else 500 + seconds
    pair: Any = SimpleNamespace(started=500.0, ended=ended), SimpleNamespace(source="new")
    paces.settled(Noop, [pair] * number)


def told(paces: Paces) -> Any:
    (found,) = paces.report()[Noop]
    return found


class TestPaces:
    def test_of_the_last_minute_and_of_the_last_five(self, clock: Clock) -> None:
        paces = Paces()
        settle(paces, 30)
        clock.now += 55
        assert told(paces)["per_minute"] == pytest.approx(30 * 60 / 55, abs=0.01)

        clock.now += 65
        settle(paces, 7)

        assert told(paces)["per_minute"] == pytest.approx(7 * 60 / 50, abs=0.01)
        assert sum(told(paces)["times"].values()) == 37
        clock.now += 300
        assert paces.report() == {}

    def test_attempts_without_a_call_have_no_time(self, clock: Clock) -> None:
        paces = Paces()
        settle(paces, 3, None)
        clock.now += 10

        assert (told(paces)["per_minute"], told(paces)["times"]) == (18, {})

    def test_names_the_model_of_events(self) -> None:
        paces = Paces()
        settle(paces, 1)

        assert (told(paces)["model"], told(paces)["state"]) == ("tests.Noop", "new")

    def test_what_took_longest_has_no_bound(self, clock: Clock) -> None:
        paces, found = Paces(), Pace()
        settle(paces, 1, 10_000)

        found.add(told(paces))

        assert told(paces)["times"] == {"inf": 1}
        assert found.seconds(0.5) == BOUNDS[-1]


class TestPace:
    @pytest.mark.parametrize("seconds", [0.0007, 0.004, 0.09, 1.3, 42.0, 1700.0])
    def test_a_time_is_known_up_to_half_of_itself(self, clock: Clock, seconds: float) -> None:
        paces, found = Paces(), Pace()
        settle(paces, 100, seconds)
        found.add(told(paces))

        for part in (0.01, 0.5, 0.95, 1.0):
            time = found.seconds(part)
            assert time is not None
            assert seconds <= 0.001 or seconds / 1.51 <= time <= seconds * 1.51

    def test_a_part_of_the_checks(self) -> None:
        found = Pace()
        found.add({"per_minute": 1.5, "times": {"0.001": 90, "1.12": 10}})
        found.add({"per_minute": 2.5, "times": {"0.001": 90, "1.12": 10}})

        half, most = found.seconds(0.5), found.seconds(0.95)

        assert half is not None and most is not None
        assert half <= 0.001
        assert 0.7 < most <= 1.12
        assert found.per_minute == 4

    def test_of_nothing(self) -> None:
        assert Pace().seconds(0.5) is None
