"""A row whose life is over moves to where the graph says, whatever states it went through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from django_fsmworker import clock
from django_fsmworker.signals import state_changed
from tests.app.models import Stay
from tests.runner.embedded import one_pass
from tests.runner.heard import heard
from tests.runner.rows import due_in, failure, fresh, path

pytestmark = pytest.mark.django_db(transaction=True)

HOUR, DAY = 3600.0, 86_400.0
LIFE = 3 * DAY


@pytest.fixture(autouse=True)
def checked() -> Iterator[list[Any]]:
    Stay.checked.clear()
    yield Stay.checked
    Stay.checked.clear()


def stay(state: str = "new", **fields: Any) -> Stay:
    return Stay.objects.create(state=state, **fields)


def ends_in(row: Stay, seconds: float) -> None:
    """Let its life end so many seconds from now, without a new due time."""
    ends = clock.now() + timedelta(seconds=seconds)
    Stay.objects.filter(pk=row.pk).update(state_life_ends=ends, state_next=clock.now())


def test_a_row_that_stays(travel: Callable[[float], None], checked: list[Any]) -> None:
    row = stay()
    travel(LIFE - 60)
    one_pass(Stay)
    assert fresh(row).state == "new"
    assert 30 < due_in(row) <= 60, "not after its retry_after of an hour"
    checked.clear()

    travel(60)
    one_pass(Stay)

    assert path(row) == ["new", "leaving"]
    assert checked == [], "no check runs on a row whose life is over"


def test_over_several_states(travel: Callable[[float], None]) -> None:
    row = stay(answer="timed")
    one_pass(Stay)
    travel(2 * DAY)
    one_pass(Stay)
    assert path(row) == ["new", "timed", "held"]
    assert DAY - 60 < due_in(row) <= DAY

    travel(DAY)
    one_pass(Stay)

    assert path(row) == ["new", "timed", "held", "leaving"]


def test_it_is_earlier_than_a_timeout(travel: Callable[[float], None]) -> None:
    row = stay("timed")
    ends_in(row, DAY)
    one_pass(Stay)
    assert fresh(row).state == "timed"
    assert DAY - 60 < due_in(row) <= DAY

    travel(DAY)
    one_pass(Stay)

    assert path(row) == ["timed", "leaving"]


def test_it_goes_before_a_timeout_that_is_over_too(travel: Callable[[float], None]) -> None:
    row = stay("timed")

    travel(LIFE)
    one_pass(Stay)

    assert path(row) == ["timed", "leaving"]


def test_a_manual_state(travel: Callable[[float], None]) -> None:
    row = stay("held")

    travel(LIFE - 60)
    one_pass(Stay)
    assert fresh(row).state == "held"
    travel(60)
    one_pass(Stay)

    assert path(row) == ["held", "leaving"]


def test_a_stray_due_time_is_put_right() -> None:
    row = stay("held")
    Stay.objects.filter(pk=row.pk).update(state_next=clock.now())

    one_pass(Stay)

    assert fresh(row).state == "held"
    assert fresh(row).state_next == row.state_life_ends


def test_a_swept_state(travel: Callable[[float], None]) -> None:
    row = stay("swept")

    travel(LIFE)
    one_pass(Stay)

    assert path(row) == ["swept", "leaving"]


def test_a_sweep_keeps_the_end(travel: Callable[[float], None]) -> None:
    row = stay("swept", flag=True)

    one_pass(Stay)

    assert path(row) == ["swept", "held"]
    assert fresh(row).state_next == row.state_life_ends


@pytest.mark.parametrize("state", ["swept", "guarded"])
def test_no_guard_is_asked_when_it_is_over(travel: Callable[[float], None], state: str) -> None:
    """Not by the claim; a sweep may be the first to find the row, which is claimed then."""
    row = stay(state)
    travel(LIFE)
    Stay.objects.filter(pk=row.pk).update(flag=True, state_failures=1)  # no sweep looks at it

    one_pass(Stay)

    assert path(row) == [state, "leaving"]


def test_a_guard_that_is_asked_by_a_claim_keeps_the_end(travel: Callable[[float], None]) -> None:
    row = stay("guarded", flag=True)
    ends_in(row, 3 * HOUR)

    travel(60)
    one_pass(Stay)

    assert path(row) == ["guarded", "new"]
    assert due_in(row) <= HOUR
    travel(3 * HOUR)
    one_pass(Stay)
    assert path(row) == ["guarded", "new", "leaving"]


def test_a_row_that_is_retried_again_and_again(travel: Callable[[float], None]) -> None:
    row = stay()

    for _ in range(3):
        travel(DAY - 60)
        row.state_retry()
        one_pass(Stay)
    assert path(row) == ["new"]
    travel(3 * 60)
    one_pass(Stay)

    assert path(row) == ["new", "leaving"]


def test_a_row_that_re_enters_its_state(travel: Callable[[float], None]) -> None:
    row = stay()

    for _ in range(3):
        travel(DAY - 60)
        fresh(row).state_transition("new")
    one_pass(Stay)
    assert path(row) == ["new"] * 4
    travel(3 * 60)
    one_pass(Stay)

    assert path(row) == ["new"] * 4 + ["leaving"]


@pytest.mark.parametrize("state", ["together", "whole"])
def test_states_that_move_their_rows_round_and_round(
    travel: Callable[[float], None], checked: list[Any], state: str
) -> None:
    row = stay(state, answer="new")
    travel(LIFE)

    one_pass(Stay)

    assert path(row) == [state, "leaving"]
    assert checked == []


def test_only_those_of_a_batch_whose_life_is_over(checked: list[Any]) -> None:
    young, old = stay("together", answer="new"), stay("together", answer="new")
    ends_in(old, 0)

    one_pass(Stay)

    assert path(young)[:2] == ["together", "new"]
    assert path(old) == ["together", "leaving"]
    assert (old.pk, "together") not in checked


def test_a_failing_row_whose_backoff_is_longer(travel: Callable[[float], None]) -> None:
    row = stay(answer="fail")
    ends_in(row, 60)

    one_pass(Stay)
    assert due_in(row) <= 60 < HOUR
    travel(60)
    one_pass(Stay)

    assert fresh(row).state == "leaving"
    record = failure(row)
    assert record is not None and record.resolved is not None


def test_a_row_that_failed_for_good(travel: Callable[[float], None], checked: list[Any]) -> None:
    row = stay(answer="fail")
    for _ in range(3):
        one_pass(Stay)
        travel(HOUR)
    assert (fresh(row).state, fresh(row).state_failures) == ("new", 3)
    assert fresh(row).state_next == row.state_life_ends
    Stay.objects.filter(pk=row.pk).update(answer="")
    checked.clear()

    travel(LIFE)
    one_pass(Stay)

    assert path(row) == ["new", "leaving"]
    assert checked == []
    record = failure(row)
    assert record is not None and record.resolved is not None


def test_a_row_that_was_parked_stays(travel: Callable[[float], None]) -> None:
    row = stay()
    row.state_park("not now")

    travel(LIFE)
    one_pass(Stay)
    assert fresh(row).state == "new"
    row.state_unpark()
    one_pass(Stay)

    assert path(row) == ["new", "leaving"]


@pytest.mark.parametrize(
    ("answer", "way"),
    [
        ("done", ["new", "done"]),
        ("held", ["new", "held", "leaving"]),
        (None, ["new", "leaving"]),
    ],
)
def test_a_check_that_runs_when_it_ends_goes_on(
    monkeypatch: pytest.MonkeyPatch, answer: str | None, way: list[str]
) -> None:
    """A row that does not come to its end by it moves with its next claim."""

    def check(row: Stay) -> str | None:
        ended = clock.now() - timedelta(seconds=1)
        Stay.objects.filter(pk=row.pk).update(state_life_ends=ended)
        return answer

    monkeypatch.setattr(Stay.state_graph, "check_new", check)
    row = stay()

    one_pass(Stay)
    one_pass(Stay)

    assert path(row) == way


def test_an_end_that_is_put_forward_while_a_check_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    sooner = clock.now() + timedelta(seconds=600)

    def check(row: Stay) -> str:
        Stay.objects.filter(pk=row.pk).update(state_life_ends=sooner)
        return "held"

    monkeypatch.setattr(Stay.state_graph, "check_new", check)
    row = stay()

    one_pass(Stay)

    assert path(row) == ["new", "held"]
    assert 500 < due_in(row) <= 600


def test_it_does_not_count_behind_its_target(travel: Callable[[float], None]) -> None:
    row = stay()
    travel(LIFE)
    one_pass(Stay)

    travel(LIFE)
    one_pass(Stay)

    assert path(row) == ["new", "leaving"]
    assert HOUR - 60 < due_in(row) <= HOUR


def test_it_is_counted_and_told(travel: Callable[[float], None]) -> None:
    row = stay("held")
    travel(LIFE)

    with heard(state_changed, Stay) as told:
        runner = one_pass(Stay)

    assert [(each["target"], each["cause"]) for each in told] == [("leaving", "lifetime")]
    assert (runner.counters.total("timed_out"), runner.counters.total("moved")) == (1, 0)
    assert fresh(row).state == "leaving"


def test_a_running_runner_wakes_up_for_it(
    start_runner: Callable[..., object], eventually: Callable[..., object]
) -> None:
    row = stay("held")
    Stay.objects.filter(pk=row.pk).update(state_life_ends=clock.now() + timedelta(seconds=1))

    start_runner(Stay, poll_interval=60)

    eventually(lambda: fresh(row).state == "leaving", 30)
