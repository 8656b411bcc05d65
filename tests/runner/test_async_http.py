"""Async checks that call a real server, with the clients and the code of the page about them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import types
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from django.test.utils import isolate_apps

from django_fsmworker.models.records import FailureRecord
from tests.app.models import Errand
from tests.app.models.errands import ERRANDS
from tests.documentation import blocks, read
from tests.paths import ROOT
from tests.runner.embedded import Embedded, one_pass
from tests.runner.rows import fresh, reason, states

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]
Call = Callable[[str], Awaitable[Any]]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server that answers after 20 to 50 ms."""
    command = [sys.executable, str(ROOT / "tests/runner/http_service.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


@pytest.fixture(params=["httpx", "aiohttp"])
def call(request: pytest.FixtureRequest) -> Iterator[Call]:
    """The check of the page, for a row with this address."""
    page = [code for _, code in blocks(read("how-to/async-http.md"))]
    module = types.ModuleType("testapp.page")
    (code,) = [code for code in page if f"import {request.param}\n" in code]
    with isolate_apps("testapp"):
        exec(compile(code, "async-http.md", "exec"), vars(module))
    check = module.WebhookStates.check_pending
    yield lambda address: check(types.SimpleNamespace(url=address, payload={"id": 1}))


def errands(number: int, mode: str) -> list[Errand]:
    return Errand.objects.bulk_create(Errand(mode=mode) for _ in range(number))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch, call: Call, url: str) -> list[int]:
    """Rows with the mode ``http`` make a call; how many made one at once, when each began."""
    numbers, running = [0], set()

    async def check(row: Errand) -> str:
        running.add(row.pk)
        numbers.append(len(running))
        try:
            await call(url)
        finally:
            running.discard(row.pk)
        return "done"

    monkeypatch.setitem(ERRANDS, "http", check)
    return numbers


def test_as_many_at_once_as_the_loop_keeps_up_with(
    at_once: list[int], request: pytest.FixtureRequest
) -> None:
    rows = errands(200, "http")

    one_pass(Errand)

    assert set(states(rows)) == {"done"}
    assert not FailureRecord.objects.exists()
    if "httpx" in request.node.name:  # which takes the longer the more calls are open
        assert max(at_once) < 150


def test_calls_that_a_check_gathers(monkeypatch: pytest.MonkeyPatch, call: Call, url: str) -> None:
    async def check(row: Errand) -> str:
        await asyncio.gather(*(call(url) for _ in range(5)))
        return "done"

    monkeypatch.setitem(ERRANDS, "gather", check)
    rows = errands(40, "gather")

    one_pass(Errand)

    assert set(states(rows)) == {"done"}
    assert not FailureRecord.objects.exists()


def test_a_call_that_is_cancelled_leaves_the_client_usable(
    monkeypatch: pytest.MonkeyPatch,
    start_runner: Start,
    eventually: Eventually,
    at_once: list[int],
    call: Call,
    url: str,
) -> None:
    async def slow(row: Errand) -> str:
        await call(f"{url}/slow")
        return "done"

    monkeypatch.setitem(ERRANDS, "slow", slow)
    late = errands(120, "slow")  # more than a client keeps connections
    runner = start_runner(Errand, deadline=2)
    eventually(lambda: runner.total("overran") == 120, 60)

    # Where the calls before kept their connections, not even one is left. A few are done in time,
    # also where there is little of a processor.
    rows = errands(5, "http")
    eventually(lambda: set(states(rows)) == {"done"}, 60)

    assert all(reason(row).startswith("django_fsmworker.exceptions.TimeoutError") for row in late)


def test_a_loop_that_replaces_a_blocked_one_has_its_own_client(
    monkeypatch: pytest.MonkeyPatch,
    start_runner: Start,
    eventually: Eventually,
    at_once: list[int],
) -> None:
    released = threading.Event()

    async def block(row: Errand) -> str:
        await ERRANDS["http"](row)
        released.wait(30)
        return "done"

    monkeypatch.setitem(ERRANDS, "block", block)
    (bad,) = errands(1, "block")
    # Time enough to make a client, which blocks the loop, too.
    runner = start_runner(Errand, deadline=2, abandon_after=0.1)
    eventually(lambda: runner.has_thread("fsmworker-loop-2"))

    rows = errands(5, "http")
    eventually(lambda: set(states(rows)) == {"done"})
    released.set()
    eventually(lambda: fresh(bad).state_failures == 1)
