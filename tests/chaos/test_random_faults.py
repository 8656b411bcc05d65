"""Every twentieth statement fails, and half of those that fail were carried out."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.app.models import Chain
from tests.chaos.faults import faults
from tests.chaos.fleet import PATH
from tests.runner.processes import Process
from tests.waiting import eventually

EVERY, SEED = 20, 7


MOST, FEWER = 10_000, 3_000

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]


@pytest.fixture
def number(vendor: str, request: pytest.FixtureRequest) -> int:
    """How many rows there are: in the short form fewer where a statement takes longer."""
    return FEWER if vendor == "mysql" and not request.config.getoption("long") else MOST


def prove_each_step_once() -> None:
    histories = Chain.objects.values_list("state_history", flat=True)
    assert {tuple(state for state, _ in history) for history in histories} == {tuple(PATH)}
    assert not Chain.objects.failing().exists()


def all_have_arrived() -> bool:
    return not Chain.objects.exclude(state="last").exists()


def test_every_row_arrives_and_takes_each_step_once(
    start_runner: Callable[..., Any], capsys: pytest.CaptureFixture[str], vendor: str, number: int
) -> None:
    Chain.objects.bulk_create(Chain(logged=not at % 50) for at in range(number))
    began = time.monotonic()

    with faults(EVERY, SEED) as some:
        runner = start_runner(Chain, lease=2, max_in_flight=1000)
        eventually(all_have_arrived, 100, every=0.2)
        runner.stop()

    with capsys.disabled():
        print(
            f"\nfaults on {vendor}: {number} rows in {time.monotonic() - began:.0f} s, "
            f"statements {dict(some.statements)}; {runner.runner.counters}"
        )
    prove_each_step_once()
    assert min(some.statements["before"], some.statements["after"]) > 10


def test_a_fleet_whose_every_twentieth_statement_fails(
    start_process: Callable[..., Process],
    capsys: pytest.CaptureFixture[str],
    vendor: str,
    number: int,
) -> None:
    """Each in a process of its own, from its first statement to its last."""
    Chain.objects.bulk_create(Chain(logged=not at % 50) for at in range(number))
    began = time.monotonic()

    fleet = [
        start_process(
            "runstator", "tests.Chain", "--lease=2", "--poll-interval=0.2",
            "--connect-timeout=60",
            DJANGO_SETTINGS_MODULE="tests.chaos.faulty_settings",
            TEST_FAULTS=f"{EVERY},{SEED + at}",
            FSMWORKER_MAX_IN_FLIGHT="300",
        )
        for at in range(3)
    ]  # fmt: skip
    eventually(lambda: all(runner.started for runner in fleet), 60)
    eventually(all_have_arrived, 100, every=0.2)
    for runner in fleet:
        runner.send(signal.SIGTERM)
    codes = [runner.wait() for runner in fleet]

    failed = [counts(runner.stdout) for runner in fleet]
    with capsys.disabled():
        print(
            f"\nfaults in a fleet on {vendor}: {number} rows in {time.monotonic() - began:.0f} s, "
            f"statements {failed}"
        )
    prove_each_step_once()
    assert codes == [0, 0, 0]
    assert all(each["before"] + each["after"] > 0 for each in failed)
    assert all(sum(each[when] for each in failed) > 10 for when in ("before", "after"))


def counts(said: str) -> dict[str, int]:
    """How many statements of a process failed, and how."""
    (line,) = [line for line in said.splitlines() if line.startswith("faults: ")]
    found: dict[str, int] = json.loads(line.removeprefix("faults: ").replace("'", '"'))
    return found
