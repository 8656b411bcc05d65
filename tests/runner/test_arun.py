"""``await runner.arun()``: a runner beside an event loop that goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections

from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.runner import StatorRunner
from tests.app.models import Trouble
from tests.runner.embedded import QUICK
from tests.runner.rows import states

pytestmark = pytest.mark.django_db(transaction=True)


def runner(**options: Any) -> StatorRunner:
    return StatorRunner([Trouble], **{**QUICK, **options})


def test_it_runs_what_is_due_while_the_loop_goes_on(mode: Callable[..., None]) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def wait(row: Trouble) -> str:
        begun.set()
        return "done" if goes_on.wait(10) else "waiting"

    mode("wait", wait)
    rows = Trouble.objects.bulk_create(Trouble(mode="wait") for _ in range(20))

    async def main() -> None:
        running = asyncio.ensure_future(runner().arun(0))
        while not begun.is_set():
            await asyncio.sleep(0)
        goes_on.set()
        await running

    asyncio.run(main())

    assert set(states(rows)) == {"done"}


def test_who_cancels_it_stops_the_runner() -> None:
    one = runner()

    async def main() -> None:
        running = asyncio.ensure_future(one.arun())
        while not one.parts.settler.is_alive():
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not one.parts.settler.is_alive()

    asyncio.run(main())


def test_stop_ends_it() -> None:
    one = runner()

    async def main() -> None:
        running = asyncio.ensure_future(one.arun())
        while not one.parts.settler.is_alive():
            await asyncio.sleep(0)
        one.stop()
        await asyncio.wait_for(running, 60)

    asyncio.run(main())


def test_it_raises_what_run_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> bool:
        raise ConfigurationError("There is no database.")

    monkeypatch.setattr("django_fsmworker.runner.preflight.make_ready", refuse)

    with pytest.raises(ConfigurationError, match="There is no database"):
        asyncio.run(runner().arun(0))
    assert connections["default"].vendor
