"""Runners killed again and again: every row arrives, and no committed transition happens twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from django_fsmworker.models.records import FailureRecord, TransitionRecord
from tests.app.models import Chain, CheckLog, Letter
from tests.chaos.fleet import PATH, Fleet, Ledger, later, release
from tests.runner.processes import Process

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]


@pytest.mark.longer
def test_nothing_is_lost_and_nothing_happens_twice(
    start_process: Callable[..., Process],
    eventually: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
    vendor: str,
    pytestconfig: pytest.Config,
) -> None:
    # Each kill is the start of another process, which is most of what this takes.
    short, long = (350, 2, 2, 12), (5000, 5, 3, 30)
    rows, kills, runners, in_hand = long if pytestconfig.getoption("long") else short
    # The checks last a while as long as runners are killed; what follows need not be waited for.
    Chain.objects.bulk_create(Chain(pause=0.05, state_next=later()) for _ in range(rows))
    fleet = Fleet(
        lambda: start_process(
            "runstator",
            "tests.Chain",
            "--lease=3",
            "--poll-interval=0.2",
            "--connect-timeout=60",
            FSMWORKER_MAX_IN_FLIGHT=str(in_hand),
        ),
        runners,
        least=2,
        portion=runners * in_hand + 10,
    )
    began = time.monotonic()

    fleet.fill()
    fleet.kill_each(kills)
    Chain.objects.update(pause=0)
    assert release(Chain), "it was over before the last kill"
    eventually(lambda: not Chain.objects.exclude(state="last").exists(), 200, every=0.2)

    ledger = Ledger.read()
    again = ledger.again()
    with capsys.disabled():
        print(
            f"\nkilled on {vendor}: {rows} rows, {runners} runners, "
            f"{len(fleet.killed)} kills, {len(fleet.held)} of them while holding rows "
            f"({sum(fleet.held)} checks were running); {again} checks run again, "
            f"{ledger.again_after_a_kill(fleet.killed)} of them after a kill; "
            f"{time.monotonic() - began:.0f} s"
        )
    assert min(fleet.kills.values()) >= kills
    prove_each_step_once(Chain, rows, PATH, ledger, fleet)
    assert again == CheckLog.objects.count() - 3 * rows


def test_nothing_is_lost_and_nothing_happens_twice_in_batches(
    start_process: Callable[..., Process],
    eventually: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
    vendor: str,
) -> None:
    rows, kills = 500, 1
    # The checks last a while as long as runners are killed; what follows need not be waited for.
    Letter.objects.bulk_create(Letter(pause=0.1, state_next=later()) for _ in range(rows))
    fleet = Fleet(
        lambda: start_process(
            "runstator",
            "tests.Letter",
            "--lease=3",
            "--poll-interval=0.2",
            "--connect-timeout=60",
            "--concurrency=3",
            FSMWORKER_MAX_IN_FLIGHT="40",
        ),
        2,
        Letter,
        least=2,
    )

    fleet.fill()
    fleet.kill_each(kills)
    Letter.objects.update(pause=0)
    assert release(Letter), "it was over before the last kill"
    eventually(lambda: not Letter.objects.exclude(state="done").exists(), 200, every=0.2)

    ledger = Ledger.read()
    again, largest = ledger.again(), max(fleet.held)
    with capsys.disabled():
        print(
            f"\nbatches killed on {vendor}: {rows} rows, {len(fleet.killed)} kills while "
            f"{sum(fleet.held)} rows were being checked, {largest} at the most; {again} run again"
        )
    assert min(fleet.kills.values()) >= kills
    assert largest > 1, "no batch was hit"
    prove_each_step_once(Letter, rows, ["new", "flying", "done"], ledger, fleet)
    assert again == CheckLog.objects.count() - 2 * rows
    assert not FailureRecord.objects.filter(resolved=None).exists()
    prove_each_step_logged_once(rows)


def prove_each_step_logged_once(rows: int) -> None:
    logged: dict[str, list[tuple[str, str]]] = {}
    for entry in TransitionRecord.objects.order_by("pk"):
        assert (entry.model, entry.cause) == ("tests.Letter", "check")
        logged.setdefault(entry.row, []).append((entry.source, entry.target))
    assert len(logged) == rows
    assert {tuple(ways) for ways in logged.values()} == {(("new", "flying"), ("flying", "done"))}


def prove_each_step_once(
    model: type[Chain | Letter], rows: int, path: list[str], ledger: Ledger, fleet: Fleet
) -> None:
    # Each row went each step once: every fenced write appends to the history in the same statement.
    histories = model.objects.values_list("state_history", flat=True)
    assert {tuple(state for state, _ in history) for history in histories} == {tuple(path)}
    # Each step was taken after a check of that state had begun, and none was checked after it.
    assert len(ledger.runs) == rows
    assert ledger.incomplete(path) == []
    # The kills did cut checks off, and what they cut off was run again by somebody else.
    assert 0 < ledger.again_after_a_kill(fleet.killed) <= ledger.again()
    assert not model.objects.failing().exists()
