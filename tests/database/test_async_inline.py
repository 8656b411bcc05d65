"""Async checks without a runner: on the caller's thread, on its connection, in its transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection

from django_fsmworker import clock
from django_fsmworker.exceptions import TryAgainLater
from django_fsmworker.testing import run_until_idle, step
from tests.app.models import Errand, ErrandStates
from tests.app.models.errands import ERRANDS

Errands = Callable[..., None]


@pytest.fixture
def errand(monkeypatch: pytest.MonkeyPatch) -> Errands:
    def define(name: str, check: Callable[[Errand], Awaitable[Any]]) -> None:
        monkeypatch.setitem(ERRANDS, name, check)

    return define


@pytest.mark.django_db
class TestInATransaction:
    def test_the_row_s_own_verb(self) -> None:
        row = Errand.objects.create()

        assert row.state_transition_check() is ErrandStates.done
        assert row.state == "done"

    def test_the_orm_sees_the_transaction(self, errand: Errands) -> None:
        async def on(row: Errand) -> str:
            row.value = await Errand.objects.acount()
            await row.asave()
            return "plain"

        errand("on", on)
        row = Errand.objects.create(mode="on")

        assert step(row) is ErrandStates.plain
        assert (row.state, row.value) == ("plain", 1)
        assert connection.in_atomic_block

    def test_run_until_idle_runs_async_checks(self) -> None:
        Errand.objects.bulk_create(Errand() for _ in range(3))

        assert run_until_idle(Errand) == 3
        assert not Errand.objects.exclude(state="done").exists()

    def test_what_a_task_of_it_asks_for(self, errand: Errands) -> None:
        """A group of tasks raises it within a group of exceptions."""

        async def ask() -> None:
            raise TryAgainLater(600)

        async def wait(row: Errand) -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(ask())
                group.create_task(asyncio.sleep(60))

        errand("wait", wait)
        row = Errand.objects.create(mode="wait")

        assert step(row) is None
        assert row.state_failures == 0
        assert row.state_next is not None
        assert row.state_next > clock.now() + timedelta(seconds=500)

    def test_what_it_raises_is_raised_once_it_is_written(self, errand: Errands) -> None:
        async def fail(row: Errand) -> None:
            await asyncio.sleep(0)
            raise ValueError("no")

        errand("fail", fail)
        row = Errand.objects.create(mode="fail")

        with pytest.raises(ValueError, match="no"):
            run_until_idle(Errand)

        row.refresh_from_db()
        assert row.state_failures == 1


@pytest.mark.django_db(transaction=True)
class TestInsideARunningLoop:
    @pytest.mark.parametrize(
        ("verb", "name"),
        [
            (lambda row: row.state_transition_check(), "state_transition_check()"),
            (lambda row: step(row), "step()"),
            (lambda row: run_until_idle(Errand), "run_until_idle()"),
        ],
    )
    def test_it_says_what_to_do(self, verb: Callable[[Errand], Any], name: str) -> None:
        row = Errand.objects.create()

        async def inside() -> None:
            verb(row)

        with pytest.raises(SynchronousOnlyOperation) as refused:
            async_to_sync(inside)()

        assert str(refused.value) == (
            f"{name} cannot run the async checks of tests.Errand on the thread of a running "
            f"event loop; call it through sync_to_async()."
        )
        row.refresh_from_db()
        assert row.state_claim is None

    def test_on_a_thread_of_its_own_it_works(self) -> None:
        row = Errand.objects.create()

        moved = async_to_sync(sync_to_async(row.state_transition_check))()

        assert moved is ErrandStates.done
