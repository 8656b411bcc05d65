"""A state's timeout has its own due time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from django_fsmworker import clock
from tests.app.models import BasicModel, Trouble
from tests.runner.embedded import one_pass
from tests.runner.rows import due_in, entered, failure, fresh, path

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_manual_state_times_out_on_time(travel: Callable[[float], None]) -> None:
    row = Trouble.objects.create(mode="to_waiting")
    one_pass(Trouble)
    assert fresh(row).state == "waiting"
    assert 15 < due_in(row) <= 30

    travel(15)
    one_pass(Trouble)
    assert fresh(row).state == "waiting"

    travel(15)
    one_pass(Trouble)
    assert path(row) == ["new", "waiting", "failed"]
    assert failure(row) is None


def test_a_new_row_in_a_manual_state_times_out_too(travel: Callable[[float], None]) -> None:
    row = Trouble.objects.create(state="waiting")

    travel(30)
    one_pass(Trouble)

    assert fresh(row).state == "failed"


def test_a_forced_transition_starts_the_timeout_anew(travel: Callable[[float], None]) -> None:
    row = Trouble.objects.create(state="waiting")
    travel(20)
    row.state_transition("waiting")

    travel(20)
    one_pass(Trouble)
    assert fresh(row).state == "waiting"

    travel(10)
    one_pass(Trouble)
    assert fresh(row).state == "failed"


def test_a_timeout_does_not_wait_for_the_next_try(travel: Callable[[float], None]) -> None:
    row = BasicModel.objects.create()
    entered(row, 6)
    one_pass(BasicModel)
    left = fresh(row)
    assert left.state == "new"
    assert left.state_next - left.state_changed == timedelta(seconds=10)

    travel(4)
    one_pass(BasicModel)

    assert fresh(row).state == "timed_out"


def test_a_timeout_counts_as_timed_out_and_not_as_moved(travel: Callable[[float], None]) -> None:
    BasicModel.objects.create()
    travel(11)

    runner = one_pass(BasicModel)

    assert (runner.counters.total("timed_out"), runner.counters.total("moved")) == (1, 0)


def test_a_failure_past_the_timeout_counts_as_failed(
    travel: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(row: BasicModel) -> None:
        raise RuntimeError("too late for that")

    monkeypatch.setattr(BasicModel.state_graph, "check_new", fail)
    row = BasicModel.objects.create()
    travel(11)

    runner = one_pass(BasicModel)

    assert fresh(row).state == "timed_out"
    assert (runner.counters.total("failed"), runner.counters.total("timed_out")) == (1, 0)


def test_a_check_that_moves_the_row_wins_over_its_timeout(travel: Callable[[float], None]) -> None:
    row = BasicModel.objects.create(ready=True)

    travel(11)
    one_pass(BasicModel)

    assert fresh(row).state == "done"


def test_a_running_runner_wakes_up_for_it(
    start_runner: Callable[..., object], eventually: Callable[..., object]
) -> None:
    row = Trouble.objects.create(state="waiting")
    Trouble.objects.filter(pk=row.pk).update(
        state_changed=clock.now() - timedelta(seconds=29),
        state_next=clock.now() + timedelta(seconds=1),
    )

    start_runner(Trouble, poll_interval=60)

    eventually(lambda: fresh(row).state == "failed", 30)
