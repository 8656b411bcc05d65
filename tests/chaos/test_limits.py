"""Limits of the fleet, kept while runners are killed; each check takes a lock of the system's."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.app.models import Parcel
from tests.chaos.fleet import later, release
from tests.runner.processes import Process

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

OPTIONS = ("tests.Parcel", "--lease=3", "--poll-interval=0.2", "--connect-timeout=60")


@pytest.fixture
def runner(start_process: Callable[..., Process], tmp_path: Path) -> Callable[[], Process]:
    return lambda: start_process("runstator", *OPTIONS, PARCEL_SLOTS=str(tmp_path))


def made(number: int, state: str, seconds: float, **columns: Any) -> None:
    Parcel.objects.bulk_create(
        Parcel(state=state, mode="slot", seconds=seconds, **columns) for _ in range(number)
    )


def left() -> int:
    return Parcel.objects.exclude(state="sent").count()


def test_no_more_run_than_the_limit_while_runners_are_killed(
    runner: Callable[[], Process], eventually: Callable[..., Any], tmp_path: Path
) -> None:
    runners = [runner() for _ in range(2)]
    eventually(lambda: all(each.started for each in runners), 60)
    made(20, "limited", 0.1)
    made(10, "limited", 0.1, state_next=later())
    eventually(lambda: left() < 28, 60)

    runners[0].send(signal.SIGKILL)
    runners[0].wait()
    assert release(Parcel) == 10

    eventually(lambda: left() == 0, 120, every=0.1)
    assert {path.name for path in tmp_path.iterdir()} == {"slot0", "slot1"}


@pytest.mark.long
def test_five_of_a_thousand_run_at_once(
    runner: Callable[[], Process],
    eventually: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runners = [runner() for _ in range(4)]
    eventually(lambda: all(each.started for each in runners), 60)
    made(1000, "five", 0.1)
    eventually(lambda: left() < 950, 60)
    samples = []
    while left() > 400:
        samples.append(Parcel.objects.running().count())
        time.sleep(0.1)
    enough = sum(number >= 4 for number in samples) / len(samples)

    for number in range(4):
        runners[number].send(signal.SIGKILL)
        runners[number].wait()
        runners[number] = runner()
        time.sleep(1)

    eventually(lambda: left() == 0, 200, every=0.2)
    with capsys.disabled():
        print(f"\n{len(samples)} samples, {enough:.1%} of them with four rows or more")
    assert {path.name for path in tmp_path.iterdir()} == {f"slot{slot}" for slot in range(5)}
    assert enough >= 0.95
