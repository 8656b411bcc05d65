"""Runners killed again and again: every row arrives, and no committed transition happens twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from django_fsmworker import clock
from testapp.models import Chain, CheckLog
from tests.chaos.fleet import PATH, Fleet, Ledger
from tests.runner.processes import Process

RUNNERS, PORTION = 3, 100


def release(number: int | None = None) -> int:
    """Make so many of the rows due that are kept for later, all of them if no number is given."""
    kept = Chain.objects.filter(state_next__gt=clock.now() + timedelta(hours=1))
    keys = list(kept.order_by("pk").values_list("pk", flat=True)[:number])
    return Chain.objects.filter(pk__in=keys).update(state_next=clock.now())


@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(300)
def test_nothing_is_lost_and_nothing_happens_twice(
    start_process: Callable[..., Process],
    eventually: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
    vendor: str,
) -> None:
    # One database is enough to be thorough with; the pass over this one has the time.
    rows, kills = (5000, 5) if vendor == "mysql" else (2500, 3)
    later = clock.now() + timedelta(days=1)
    # The checks last a while as long as runners are killed; what follows need not be waited for.
    Chain.objects.bulk_create(Chain(pause=0.05, state_next=later) for _ in range(rows))
    fleet = Fleet(
        lambda: start_process(
            "runstator",
            "testapp.Chain",
            "--lease=3",
            "--poll-interval=0.2",
            "--connect-timeout=60",
            FSMWORKER_MAX_IN_FLIGHT="30",
        ),
        RUNNERS,
        least=2,
    )
    began = time.monotonic()

    def killed(number: int) -> bool:
        """Always with work to do: a quick machine must not be done before the last kill."""
        if not fleet.processes[number].started:
            return False
        if Chain.objects.due().count() < PORTION:
            release(PORTION)
        return fleet.kill_while_it_holds_rows(number)

    fleet.fill()
    for _ in range(kills):
        for number in range(RUNNERS):
            eventually(lambda number=number: killed(number), 60, every=0.02)
    Chain.objects.update(pause=0)
    assert release(), "it was over before the last kill"
    eventually(lambda: not Chain.objects.exclude(state="last").exists(), 200, every=0.2)

    ledger = Ledger.read()
    again = ledger.again()
    with capsys.disabled():
        print(
            f"\nkilled on {vendor}: {rows} rows, {RUNNERS} runners, "
            f"{len(fleet.killed)} kills, {len(fleet.held)} of them while holding rows "
            f"({sum(fleet.held)} checks were running); {again} checks run again, "
            f"{ledger.again_after_a_kill(fleet.killed)} of them after a kill; "
            f"{time.monotonic() - began:.0f} s"
        )
    assert min(fleet.kills.values()) >= kills

    # Each row went each step once: every fenced write appends to the history in the same statement.
    histories = Chain.objects.values_list("state_history", flat=True)
    assert {tuple(state for state, _ in history) for history in histories} == {tuple(PATH)}
    # Each step was taken after a check of that state had begun, and none was checked after it.
    assert len(ledger.runs) == rows
    assert ledger.incomplete() == []
    # The kills did cut checks off, and what they cut off was run again by somebody else.
    assert 0 < ledger.again_after_a_kill(fleet.killed) <= again
    assert again == CheckLog.objects.count() - 3 * rows
    assert not Chain.objects.failing().exists()
