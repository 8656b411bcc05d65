"""What a runner measures for its metrics."""

from __future__ import annotations

from typing import Any

import pytest

from django_fsmworker.health.pages import METRICS, pages_of_all, samples, samples_of_all
from django_fsmworker.metrics.families import DEFINITIONS, Samples
from django_fsmworker.models.limits import WHOLE_LANE
from django_fsmworker.pauses import pause, resume
from django_fsmworker.runner import housekeeping
from django_fsmworker.store import pauses
from tests.app.models import Chain, Letter, Noop, Parcel, Trouble
from tests.runner.embedded import one_pass
from tests.runner.held_check import HeldCheck

pytestmark = pytest.mark.django_db(transaction=True)


def counted(runner: Any, name: str) -> dict[tuple[str, ...], float]:
    """The numbers of a metric by its labels; of a histogram, how many values it has."""
    return {
        tuple(sample[0]): sample[1] if len(sample) == 2 else sample[1][-1][1]
        for sample in samples(runner)[name]
    }


def by_labels(found: Samples, name: str) -> dict[tuple[str, ...], Any]:
    return {tuple(sample[0]): sample for sample in found[name]}


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
    # The first check may begin before the process has come round, or has given a sign of life.
    eventually(lambda: counted(runner, "fsmworker_ready") == {(): 1})
    assert "fsmworker_running{" in pages_of_all([runner])[METRICS]().text


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


def test_rows_that_share_a_call_are_timed() -> None:
    Letter.objects.bulk_create(Letter() for _ in range(5))

    runner = one_pass(Letter, health_port=0)

    for name in ("fsmworker_attempt_seconds", "fsmworker_queue_seconds"):
        assert counted(runner, name)["tests.Letter", "new"] == 5
    seconds: Any = by_labels(samples(runner), "fsmworker_attempt_seconds")["tests.Letter", "new"]
    assert seconds[2] > 0


def test_what_is_paused_is_shown(travel: Any) -> None:
    Parcel.objects.create(state="plain")
    pause(Parcel, "plain")
    pause(Parcel, "urgent", until=60)
    pause(Parcel, "keyed", key=1)
    pauses.add("default", "tests.Parcel", "broken", WHOLE_LANE, 30, kind="breaker")
    runner = one_pass(Parcel, health_port=0)
    book = runner.parts.limiter.pauses

    lanes = {("tests.Parcel", "plain"): 1, ("tests.Parcel", "urgent"): 1}
    assert counted(runner, "fsmworker_paused") == lanes
    assert counted(runner, "fsmworker_paused_keys") == {("tests.Parcel", "keyed"): 1}
    assert counted(runner, "fsmworker_breaker_open") == {("tests.Parcel", "broken"): 1}
    travel(61)
    book.ask(runner.stores[Parcel])
    assert counted(runner, "fsmworker_paused") == {("tests.Parcel", "plain"): 1}
    assert counted(runner, "fsmworker_breaker_open") == {("tests.Parcel", "broken"): 1}


def test_what_is_paused_is_known_while_nothing_is_due(
    start_runner: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "SUMMARY_INTERVAL", 0.1)
    runner = start_runner(Parcel, health_port=0, delete_interval=0.1).runner
    eventually(lambda: counted(runner, "fsmworker_ready") == {(): 1})

    pause(Parcel, "plain")
    eventually(lambda: counted(runner, "fsmworker_paused"))
    resume(Parcel)
    eventually(lambda: not counted(runner, "fsmworker_paused"))


def test_several_runners_of_a_process_are_added_up() -> None:
    Chain.objects.create()
    runners = [one_pass(Chain, health_port=0), one_pass(Chain, health_port=0)]

    found = samples_of_all(runners)

    assert by_labels(found, "fsmworker_attempts_total")["tests.Chain", "first", "moved"][1] == 1
    assert by_labels(found, "fsmworker_up")[()][1] == 1
    assert set(found) == set(DEFINITIONS)
    twice = samples_of_all([runners[0]] * 2)
    assert by_labels(twice, "fsmworker_attempts_total")["tests.Chain", "first", "moved"][1] == 2
    assert by_labels(twice, "fsmworker_up")[()][1] == 1
    seconds = by_labels(twice, "fsmworker_attempt_seconds")["tests.Chain", "first"]
    alone = by_labels(found, "fsmworker_attempt_seconds")["tests.Chain", "first"]
    assert seconds[1][-1] == ("+Inf", 2)
    assert seconds[2] == pytest.approx(2 * alone[2])


def test_without_a_port_nothing_is_measured() -> None:
    Noop.objects.create()

    runner = one_pass(Noop)

    assert runner.parts.measurements is None
    assert "fsmworker_attempts_total" not in samples(runner)
