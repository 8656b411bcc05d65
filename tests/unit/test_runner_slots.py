"""The slots for async checks, against a loop of which it is known how it takes them."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import pytest

from django_fsmworker.runner.executors import slots as module
from django_fsmworker.runner.executors.slots import FEWEST, FIRST, Pulse, Slots

PULSE = 0.02
IDLE = Pulse(elapsed=PULSE, idle=PULSE, late=0.001)


class Loop:
    """Runs checks, of which ``rate(at_once)`` end in a second, in ``busy(at_once)`` of its time.

    All slots are wanted at any time. Where it is busy all the time, it is ``late`` seconds late.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        size: int,
        rate: Callable[[int], float],
        busy: Callable[[int], float],
        line: Callable[[int], float] = lambda at_once: 0.0,
    ) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module, "time", self)
        self.slots = Slots(size)
        self.rate, self.busy, self.line = rate, busy, line
        self.limits: list[int] = []
        self._due = 0.0

    def monotonic(self) -> float:
        return self.now

    def run(self, seconds: float) -> list[int]:
        """Go on for a while; returns the limits of its second half."""
        end, self.limits = self.now + seconds, []
        while self.now < end:
            self._fill()
            at_once = self.slots._taken
            self._due += PULSE * self.rate(at_once)
            self.now += PULSE
            while self._due >= 1:
                self._due -= 1
                self.slots.release(at_once / self.rate(at_once))
                self._fill()
            share = min(1.0, self.busy(at_once))
            late = 0.03 if share == 1 else 0.001
            self.slots.see(Pulse(PULSE, (1 - share) * PULSE, late, self.line(at_once)))
            self.limits.append(self.slots.limit)
        return self.limits[len(self.limits) // 2 :]

    def _fill(self) -> None:
        while self.slots._taken < self.slots.limit:
            self.slots.acquire()
        self.slots._waits = self.slots._waited = True  # the feeder does


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Loop]:
    return lambda *args: Loop(monkeypatch, *args)


def test_all_are_given_while_the_loop_has_time(loop: Callable[..., Loop]) -> None:
    idle = loop(200, lambda at_once: at_once / 60, lambda at_once: at_once / 2000)

    idle.run(0.3)

    assert idle.limits[0] == FIRST
    assert idle.slots.limit == 200


def test_no_more_than_are_wanted() -> None:
    slots = Slots(200)
    slots.acquire()

    for _ in range(100):
        slots.see(IDLE)

    assert slots.limit == FIRST


def test_a_size_below_the_first_number() -> None:
    assert Slots(7).limit == 7


def test_checks_that_wait_for_nothing(loop: Callable[..., Loop]) -> None:
    """They keep the loop busy, and as many at once as are allowed wake it the least."""
    brief = loop(200, lambda at_once: 50_000.0, lambda at_once: 1.0)

    brief.run(1)

    assert brief.slots.limit == 200


def test_a_client_that_takes_longer_the_more_calls_are_open(loop: Callable[..., Loop]) -> None:
    """500 calls a second at 25, half of it at 100, as httpx does."""

    def rate(at_once: int) -> float:
        return min(at_once / 0.05, 500 * min(1.0, math.sqrt(25 / at_once)))

    client = loop(200, rate, lambda at_once: at_once / 25)

    limits = client.run(60)

    assert max(limits) < 50
    assert mean([rate(limit) for limit in limits]) > 0.85 * 500
    assert rate(200) < 180


def test_a_loop_that_can_do_no_more(loop: Callable[..., Loop]) -> None:
    """With 200 of its checks each would take ten seconds; as many end with ten of them."""
    busy = loop(200, lambda at_once: 20.0, lambda at_once: 1.0)

    limits = busy.run(120)

    assert FEWEST <= min(limits) <= max(limits) <= 2 * FIRST


def test_calls_that_wait_for_threads(loop: Callable[..., Loop]) -> None:
    """Four threads and calls of a second, while the loop has nothing to do."""
    waiting = loop(
        200, lambda at_once: 4.0, lambda at_once: 0.01, lambda at_once: (at_once - 4) / 4
    )

    limits = waiting.run(120)

    assert max(limits) <= 2 * FIRST


def test_a_busy_loop_that_fewer_do_not_help(loop: Callable[..., Loop]) -> None:
    """Something else keeps it busy, from some moment on."""
    beside = loop(200, lambda at_once: at_once / 0.1, lambda at_once: 0.2)
    beside.run(1)
    assert beside.slots.limit == 200

    beside.rate, beside.busy = lambda at_once: at_once / 0.4, lambda at_once: 1.0
    limits = beside.run(200)

    assert mean([float(limit) for limit in limits]) > 0.9 * 200


def test_it_recovers(loop: Callable[..., Loop]) -> None:
    changing = loop(200, lambda at_once: 20.0, lambda at_once: 1.0)
    changing.run(60)
    assert changing.slots.limit <= 2 * FIRST

    changing.rate, changing.busy = lambda at_once: at_once / 0.05, lambda at_once: 0.3
    changing.run(10)

    assert changing.slots.limit == 200


def test_one_check_that_blocks_costs_no_slots() -> None:
    slots = Slots(200)
    slots.limit = 200
    for pulse in [IDLE] * 4 + [Pulse(elapsed=4.0, idle=0.01, late=3.98)] + [IDLE] * 4:
        slots.release(took=1.0)
        slots.see(pulse)

    assert slots.limit == 200


def test_fewer_than_all_are_told_of(
    loop: Callable[..., Loop], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="django_fsmworker")
    changing = loop(200, lambda at_once: at_once / 0.05, lambda at_once: 0.1)
    changing.run(2)
    assert not caplog.messages

    changing.rate, changing.busy = lambda at_once: 400.0, lambda at_once: 1.0
    changing.run(5)

    assert caplog.messages == [
        "The event loop has too much to do, or the threads that its checks call in; 100 async "
        "checks run at once for now, not 200."
    ]


class TestWaiting:
    def test_for_a_slot(self) -> None:
        slots = Slots(1)
        slots.acquire()
        waiting = threading.Thread(target=slots.acquire)
        waiting.start()

        slots.release()
        waiting.join(10)

        assert not waiting.is_alive()

    def test_ends_with_the_slots(self) -> None:
        slots = Slots(1)
        slots.acquire()
        waiting = threading.Thread(target=slots.acquire)
        waiting.start()

        slots.close()
        waiting.join(10)

        assert not waiting.is_alive()
