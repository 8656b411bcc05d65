"""Every twentieth statement fails, and half of those that fail were carried out."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.app.models import Chain
from tests.chaos.faults import faults
from tests.chaos.fleet import PATH
from tests.runner.processes import Process
from tests.waiting import eventually

# How many statements a runner sends depends on its pace: with this seed and the next ones each kind
# of fault comes within the first thirty, and more than three of each within the first 120.
EVERY, SEED = 20, 2544

pytestmark = [
    pytest.mark.longer,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(300),
]


@dataclass(frozen=True)
class Load:
    """How many rows there are, runners in the fleet, and rows in the hands of one.

    The fewer are in hand at a time, the more statements they take.
    """

    number: int
    runners: int
    alone_in_hand: int
    each_in_hand: int


LONG, SHORT = Load(10_000, 3, 1000, 300), Load(1000, 2, 20, 20)
# What is one statement elsewhere is a transaction of several on MariaDB.
SHORT_ON_MARIADB = Load(1000, 2, 60, 60)


@pytest.fixture
def load(pytestconfig: pytest.Config, vendor: str) -> Load:
    if pytestconfig.getoption("long"):
        return LONG
    return SHORT_ON_MARIADB if vendor == "mysql" else SHORT


def prove_each_step_once() -> None:
    histories = Chain.objects.values_list("state_history", flat=True)
    assert {tuple(state for state, _ in history) for history in histories} == {tuple(PATH)}
    assert not Chain.objects.failing().exists()


def all_have_arrived() -> bool:
    return not Chain.objects.exclude(state="last").exists()


def test_every_row_arrives_and_takes_each_step_once(
    start_runner: Callable[..., Any], capsys: pytest.CaptureFixture[str], vendor: str, load: Load
) -> None:
    Chain.objects.bulk_create(Chain(logged=not at % 50) for at in range(load.number))
    began = time.monotonic()

    with faults(EVERY, SEED) as some:
        runner = start_runner(Chain, lease=2, max_in_flight=load.alone_in_hand)
        eventually(all_have_arrived, 200, every=0.2)
        runner.stop()

    with capsys.disabled():
        print(
            f"\nfaults on {vendor}: {load.number} rows in {time.monotonic() - began:.0f} s, "
            f"statements {dict(some.statements)}; {runner.runner.counters}"
        )
    prove_each_step_once()
    assert min(some.statements["before"], some.statements["after"]) > 3


def test_a_fleet_whose_every_twentieth_statement_fails(
    start_process: Callable[..., Process],
    capsys: pytest.CaptureFixture[str],
    vendor: str,
    load: Load,
) -> None:
    """Each in a process of its own, from its first statement to its last."""
    Chain.objects.bulk_create(Chain(logged=not at % 50) for at in range(load.number))
    began = time.monotonic()

    fleet = [
        start_process(
            "runstator", "tests.Chain", "--lease=2", "--poll-interval=0.2",
            "--connect-timeout=60",
            DJANGO_SETTINGS_MODULE="tests.chaos.faulty_settings",
            TEST_FAULTS=f"{EVERY},{SEED + at}",
            FSMWORKER_MAX_IN_FLIGHT=str(load.each_in_hand),
        )
        for at in range(load.runners)
    ]  # fmt: skip
    eventually(lambda: all(runner.started for runner in fleet), 60)
    eventually(all_have_arrived, 200, every=0.2)
    for runner in fleet:
        runner.send(signal.SIGTERM)
    codes = [runner.wait() for runner in fleet]

    failed = [counts(runner.stdout) for runner in fleet]
    with capsys.disabled():
        print(
            f"\nfaults in a fleet on {vendor}: {load.number} rows "
            f"in {time.monotonic() - began:.0f} s, statements {failed}"
        )
    prove_each_step_once()
    assert set(codes) == {0}
    assert all(each["before"] + each["after"] > 0 for each in failed)
    assert all(sum(each[when] for each in failed) > 3 for when in ("before", "after"))


def counts(said: str) -> dict[str, int]:
    """How many statements of a process failed, and how."""
    (line,) = [line for line in said.splitlines() if line.startswith("faults: ")]
    found: dict[str, int] = json.loads(line.removeprefix("faults: ").replace("'", '"'))
    return found
