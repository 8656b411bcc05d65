"""Events and touches of rows that a runner holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.app.models import Purchase, PurchaseStates
from tests.runner.embedded import Embedded
from tests.runner.rows import fresh, path

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]


class Check:
    """The check of the state ``open``: it lasts until it is released, and leaves the row there."""

    def __init__(self) -> None:
        self.begun, self.ended, self.released = 0, 0, False

    def __call__(self, row: Any) -> None:
        self.begun += 1
        try:
            while not self.released:
                _sleep(0.005)
        finally:
            self.ended += 1


_sleep = time.sleep  # whatever a test puts in its place


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Iterator[Check]:
    check = Check()
    monkeypatch.setattr(PurchaseStates, "check_open", staticmethod(check))
    yield check
    check.released = True


def test_an_event_waits_for_the_check_to_end(
    check: Check, start_runner: Start, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Purchase.objects.create()
    start_runner(Purchase, lease=30)
    eventually(lambda: check.begun)

    def sleep(pause: float) -> None:
        check.released = True
        _sleep(pause)

    monkeypatch.setattr("time.sleep", sleep)
    row.state_send("hold")

    assert (check.begun, check.ended, row.state, fresh(row).state) == (1, 1, "held", "held")


def test_an_event_that_interrupts_ends_the_check(
    check: Check, start_runner: Start, eventually: Eventually
) -> None:
    row = Purchase.objects.create()
    runner = start_runner(Purchase)
    eventually(lambda: check.begun)

    row.state_send("cancel")
    runner.look_for_revoked(Purchase)

    assert row.state == "rejected"
    eventually(lambda: check.ended and fresh(row).state_claim is None)
    assert runner.total("superseded") == 1
    assert path(row) == ["open", "rejected"]


def test_an_event_that_interrupts_and_moves_nothing_has_the_check_run_anew(
    check: Check, start_runner: Start, eventually: Eventually
) -> None:
    row = Purchase.objects.create()
    runner = start_runner(Purchase)
    eventually(lambda: check.begun)

    row.state_send("poke")
    runner.look_for_revoked(Purchase)

    eventually(lambda: check.begun == 2)
    assert fresh(row).note == "poke by None: ;"


def test_a_touch_while_the_check_runs_has_it_run_again(
    check: Check, start_runner: Start, eventually: Eventually
) -> None:
    row = Purchase.objects.create()
    start_runner(Purchase, lease=2)  # it is due again at the end of its lease
    eventually(lambda: check.begun)

    assert row.state_touch()
    check.released = True

    eventually(lambda: check.begun > 1)
    assert fresh(row).state == "open"
