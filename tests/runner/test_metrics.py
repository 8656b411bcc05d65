"""What a runner measures for its metrics."""

from __future__ import annotations

from typing import Any

import pytest

from django_fsmworker.health.pages import METRICS, pages_of, samples
from django_fsmworker.metrics.families import DEFINITIONS
from tests.app.models import Chain, Noop, Trouble
from tests.runner.embedded import one_pass
from tests.runner.held_check import HeldCheck

pytestmark = pytest.mark.django_db(transaction=True)


def counted(runner: Any, name: str) -> dict[tuple[str, ...], float]:
    """The numbers of a metric by its labels; of a histogram, how many values it has."""
    return {
        tuple(sample[0]): sample[1] if len(sample) == 2 else sample[1][-1][1]
        for sample in samples(runner)[name]
    }


def test_attempts_and_moves_are_counted_and_timed() -> None:
    Chain.objects.create()
    Trouble.objects.create(mode="raise")

    runner = one_pass(Chain, Trouble, health_port=0)

    attempts = counted(runner, "fsmworker_attempts_total")
    assert attempts["tests.Chain", "first", "moved"] == 1
    assert sum(n for (model, _, how), n in attempts.items() if how == "failed") == 1
    moves = counted(runner, "fsmworker_transitions_total")
    assert moves["tests.Chain", "first", "second"] == 1
    for name in ("fsmworker_attempt_seconds", "fsmworker_queue_seconds"):
        assert counted(runner, name)["tests.Chain", "first"] == 1
    assert counted(runner, "fsmworker_settle_batch_size")["tests.Chain",] >= 1
    assert counted(runner, "fsmworker_claim_seconds")["tests.Chain",] >= 1
    assert set(samples(runner)) == set(DEFINITIONS)


def test_what_runs_is_shown(start_runner: Any, held_check: HeldCheck, eventually: Any) -> None:
    Trouble.objects.create(mode="held")
    runner = start_runner(Trouble, health_port=0).runner
    eventually(lambda: counted(runner, "fsmworker_running"))

    assert list(counted(runner, "fsmworker_running").values()) == [1]
    assert next(iter(counted(runner, "fsmworker_longest_running_seconds").values())) > 0
    assert counted(runner, "fsmworker_ready") == {(): 1}
    assert "fsmworker_running{" in pages_of(runner)[METRICS]().text


def test_what_waits_is_shown(travel: Any) -> None:
    Noop.objects.create()
    travel(60)
    runner = one_pass(Chain, Noop, health_port=0)
    Noop.objects.create()
    travel(60)

    runner.parts.claimer.look_again()
    runner.parts.claimer.lanes.wake_all(Noop)
    runner.parts.housekeeping.write_summaries("default")

    assert set(counted(runner, "fsmworker_due_rows")) >= {("tests.Noop",)}


def test_without_a_port_nothing_is_measured() -> None:
    Noop.objects.create()

    runner = one_pass(Noop)

    assert runner.parts.measurements is None
    assert "fsmworker_attempts_total" not in samples(runner)
