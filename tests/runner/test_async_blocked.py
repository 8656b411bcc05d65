"""Coroutines that keep the event loop for themselves: said aloud, and everybody else goes on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from django_fsmworker.models.records import FailureRecord
from tests.app.models import Errand
from tests.app.models.errands import ERRANDS
from tests.runner.embedded import Embedded
from tests.runner.rows import failure, fresh, reason, states

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]
Errands = Callable[..., None]

OVERRAN = "django_fsmworker.exceptions.TimeoutError: The check did not end within its deadline; "
QUICK = {"deadline": 0.8, "abandon_after": 0.1}


@pytest.fixture
def errand(monkeypatch: pytest.MonkeyPatch) -> Errands:
    def define(name: str, check: Callable[[Errand], Awaitable[Any]]) -> None:
        monkeypatch.setitem(ERRANDS, name, check)

    return define


@pytest.fixture
def neighbours(errand: Errands) -> list[Errand]:
    """Rows whose checks wait on the loop that is about to be blocked, and are run once more."""
    began: dict[Any, int] = {}

    async def neighbour(row: Errand) -> str:
        began[row.pk] = began.get(row.pk, 0) + 1
        await asyncio.sleep(0.15 if began[row.pk] == 1 else 0)
        return "done"

    errand("neighbour", neighbour)
    return errands(3, "neighbour")


def errands(number: int, mode: str) -> list[Errand]:
    return Errand.objects.bulk_create(Errand(mode=mode) for _ in range(number))


def said(caplog: pytest.LogCaptureFixture, row: Errand) -> bool:
    return any(
        message.startswith("The event loop gave no sign for ")
        and f"tests.Errand {row.pk} blocks it at " in message
        and message.endswith("; a new one takes over.")
        for message in caplog.messages
    )


def test_one_that_sleeps_in_the_wrong_way(
    start_runner: Start,
    eventually: Eventually,
    errand: Errands,
    neighbours: list[Errand],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def wrong(row: Errand) -> str:
        await asyncio.sleep(0.05)
        time.sleep(4)
        return "done"

    errand("wrong", wrong)
    (bad,) = errands(1, "wrong")
    runner = start_runner(Errand, **QUICK)

    eventually(lambda: set(states(neighbours)) == {"done"})
    late = errands(3, "neighbour")
    eventually(lambda: set(states(late)) == {"done"})
    eventually(lambda: fresh(bad).state_failures == 1)

    assert said(caplog, bad)
    assert reason(bad).startswith(OVERRAN)
    assert [record.row for record in FailureRecord.objects.all()] == [str(bad.pk)]
    eventually(lambda: runner.runner.status().event_loop.abandoned == 0)
    eventually(lambda: not runner.has_thread("fsmworker-loop-1"))


def test_one_that_computes_for_ever_is_interrupted(
    start_runner: Start, eventually: Eventually, errand: Errands, neighbours: list[Errand]
) -> None:
    async def spin(row: Errand) -> str:
        await asyncio.sleep(0.05)
        while True:
            pass

    errand("spin", spin)
    (bad,) = errands(1, "spin")
    start_runner(Errand, **QUICK)

    eventually(lambda: fresh(bad).state_failures == 1)
    eventually(lambda: set(states(neighbours)) == {"done"})

    assert reason(bad).startswith(OVERRAN)
    assert FailureRecord.objects.count() == 1


def test_one_that_does_not_come_back_keeps_its_row_and_nobody_else_s(
    start_runner: Start, eventually: Eventually, errand: Errands, neighbours: list[Errand]
) -> None:
    released = threading.Event()

    async def hang(row: Errand) -> str:
        await asyncio.sleep(0.05)
        released.wait(30)
        return "done"

    errand("hang", hang)
    (bad,) = errands(1, "hang")
    runner = start_runner(Errand, **QUICK)
    try:
        eventually(lambda: runner.runner.status().event_loop.abandoned == 1)
        eventually(lambda: set(states(neighbours)) == {"done"})
        eventually(lambda: failure(bad))
        assert fresh(bad).state_claim is not None
        assert fresh(bad).state_failures == 0
    finally:
        released.set()
    eventually(lambda: fresh(bad).state_failures == 1)

    assert reason(bad).startswith(OVERRAN)
    assert FailureRecord.objects.count() == 1
    eventually(lambda: runner.runner.status().event_loop.abandoned == 0)


def test_a_short_block_is_no_overrun_of_the_neighbours(
    start_runner: Start, eventually: Eventually, errand: Errands, neighbours: list[Errand]
) -> None:
    async def short(row: Errand) -> str:
        await asyncio.sleep(0.05)
        time.sleep(1.1)
        return "done"

    errand("short", short)
    rows = errands(1, "short")
    start_runner(Errand, deadline=1, abandon_after=3)

    eventually(lambda: set(states(rows + neighbours)) == {"done"})
    assert not FailureRecord.objects.exists()


def test_a_task_that_a_check_has_started_is_its_own_doing(
    start_runner: Start,
    eventually: Eventually,
    errand: Errands,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def block() -> None:
        time.sleep(4)

    async def start(row: Errand) -> str:
        await asyncio.gather(block(), asyncio.sleep(0))
        return "done"

    errand("start", start)
    (bad,) = errands(1, "start")
    start_runner(Errand, **QUICK)

    eventually(lambda: any("gave no sign" in message for message in caplog.messages))
    eventually(lambda: fresh(bad).state_claim is None or fresh(bad).state == "done")
    assert any("blocks it at " in message for message in caplog.messages)


def test_a_busy_loop_that_comes_round_is_left_alone(
    start_runner: Start,
    eventually: Eventually,
    errand: Errands,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def busy(row: Errand) -> str:
        for _ in range(20):
            time.sleep(0.03)
            await asyncio.sleep(0)
        return "done"

    errand("busy", busy)
    (row,) = errands(1, "busy")
    start_runner(Errand, deadline=5, abandon_after=0.1)

    eventually(lambda: fresh(row).state == "done")
    assert not [message for message in caplog.messages if "gave no sign" in message]
