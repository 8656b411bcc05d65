"""A check that somebody ends while a runner runs it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from django_fsmworker.models import FailureRecord
from django_fsmworker.runner.execution.interruption import interrupt
from django_fsmworker.runner.executors.thread_executor import CheckThread
from tests.app.models import Trouble
from tests.runner.embedded import Embedded
from tests.runner.rows import fresh

pytestmark = pytest.mark.django_db(transaction=True)

ENDS = [
    pytest.param(lambda row: row.state_cancel(retry_in=3600), False, id="cancel"),
    pytest.param(lambda row: row.state_park("stop"), True, id="park"),
]


@pytest.mark.parametrize(("end", "is_parked"), ENDS)
def test_it_is_interrupted_and_its_row_stays(
    end: Callable[[Any], bool],
    is_parked: bool,
    start_runner: Callable[..., Embedded],
    eventually: Callable[..., Any],
    held_check: Any,
) -> None:
    row = Trouble.objects.create(mode="held")
    runner = start_runner(Trouble, deadline=60)
    eventually(lambda: held_check.begun)

    assert end(fresh(row)) is True
    runner.look_for_revoked(Trouble)

    eventually(lambda: fresh(row).state_claim is None)
    found = fresh(row)
    assert (found.state, found.state_next is None) == ("new", is_parked)
    assert held_check.begun == [row.pk]
    assert runner.total("superseded") == 1
    assert runner.total("failed") == 0
    assert not FailureRecord.objects.filter(count__gt=0).exists()
    Trouble.objects.unpark() if is_parked else fresh(row).state_retry()
    eventually(lambda: held_check.begun == [row.pk, row.pk])


def test_a_check_may_park_its_own_row(
    start_runner: Callable[..., Embedded], eventually: Callable[..., Any], mode: Callable[..., None]
) -> None:
    ended: list[Any] = []

    def park(row: Trouble) -> str:
        row.state_park("somebody has to look at it", by="the check")
        ended.append(row.pk)
        return "done"

    mode("park", park)
    row = Trouble.objects.create(mode="park")
    start_runner(Trouble, lease=1.0)

    eventually(lambda: fresh(row).state_failures == -1 and fresh(row).state_claim is None)

    assert ended == [row.pk]
    assert (fresh(row).state, fresh(row).state_next) == ("new", None)
    assert fresh(row).failure.parked_by == "the check"


def test_one_that_is_ended_before_its_first_line_hands_its_row_back(
    start_runner: Callable[..., Embedded],
    eventually: Callable[..., Any],
    mode: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[Any] = []

    def take(thread: CheckThread, work: Any) -> None:
        thread.__dict__["taken"] = work
        if work is not None and not ended:  # whoever sees the work may interrupt it
            ended.append(work.pk)
            interrupt(work, threading.get_ident(), None, "cancelled")

    taken = property(lambda thread: thread.__dict__["taken"], take)
    monkeypatch.setattr(CheckThread, "work", taken, raising=False)
    mode("work", lambda row: "done")
    row = Trouble.objects.create(mode="work")
    runner = start_runner(Trouble, lease=30)

    eventually(lambda: fresh(row).state == "done")

    assert ended == [row.pk]
    assert runner.total("interrupted") == 1
    assert runner.total("failed") == 0
