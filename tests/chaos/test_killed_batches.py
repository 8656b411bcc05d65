"""Runners killed in the middle of batches: every row arrives, each of its steps happens once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from django_fsmworker import clock
from django_fsmworker.models.records import FailureRecord
from testapp.models import CheckLog, Letter
from tests.chaos.fleet import Fleet, Ledger
from tests.runner.processes import Process

ROWS, RUNNERS, KILLS = 2000, 2, 3
PORTION = 100
PATH = ["new", "flying", "done"]


def release(number: int | None = None) -> int:
    """Make so many of the rows due that are kept for later, all of them if no number is given."""
    kept = Letter.objects.filter(state_next__gt=clock.now() + timedelta(hours=1))
    keys = list(kept.order_by("pk").values_list("pk", flat=True)[:number])
    return Letter.objects.filter(pk__in=keys).update(state_next=clock.now())


@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(300)
def test_nothing_is_lost_and_nothing_happens_twice(
    start_process: Callable[..., Process],
    eventually: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
    vendor: str,
) -> None:
    later = clock.now() + timedelta(days=1)
    # The checks last a while as long as runners are killed; what follows need not be waited for.
    Letter.objects.bulk_create(Letter(pause=0.1, state_next=later) for _ in range(ROWS))
    fleet = Fleet(
        lambda: start_process(
            "runstator",
            "testapp.Letter",
            "--lease=3",
            "--poll-interval=0.2",
            "--connect-timeout=60",
            "--concurrency=3",
            FSMWORKER_MAX_IN_FLIGHT="100",
        ),
        RUNNERS,
        Letter,
        least=2,
    )

    def killed(number: int) -> bool:
        """Always with work to do: a quick machine must not be done before the last kill."""
        if not fleet.processes[number].started:
            return False
        if Letter.objects.due().count() < PORTION:
            release(PORTION)
        return fleet.kill_while_it_holds_rows(number)

    fleet.fill()
    for _ in range(KILLS):
        for number in range(RUNNERS):
            eventually(lambda number=number: killed(number), 60, every=0.02)
    Letter.objects.update(pause=0)
    assert release(), "it was over before the last kill"
    eventually(lambda: not Letter.objects.exclude(state="done").exists(), 200, every=0.2)

    ledger = Ledger.read()
    again, largest = ledger.again(), max(fleet.held)
    with capsys.disabled():
        print(
            f"\nbatches killed on {vendor}: {ROWS} rows, {len(fleet.killed)} kills while "
            f"{sum(fleet.held)} rows were being checked, {largest} at the most; {again} run again"
        )
    assert min(fleet.kills.values()) >= KILLS
    assert largest > 1, "no batch was hit"

    # Each row went each step once: every fenced write appends to the history in the same statement.
    histories = Letter.objects.values_list("state_history", flat=True)
    assert {tuple(state for state, _ in history) for history in histories} == {tuple(PATH)}
    # Each step was taken after a check of that state had begun, and none was checked after it.
    assert len(ledger.runs) == ROWS
    assert ledger.incomplete(PATH) == []
    assert 0 < ledger.again_after_a_kill(fleet.killed) <= again
    assert again == CheckLog.objects.count() - 2 * ROWS
    assert not Letter.objects.failing().exists()
    assert not FailureRecord.objects.filter(resolved=None).exists()
