"""How many connections a runner has: never more than documented, and none when it has ended."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection, connections

from testapp.models import Chain, Errand, errands
from tests.chaos.detour import detour
from tests.chaos.rows import Rows
from tests.runner.embedded import Embedded
from tests.runner.rows import states
from tests.runner.server import Server
from tests.waiting import eventually

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

CONCURRENCY, ASYNC_THREADS = 10, 4
# One each for claiming, settling, renewing, housekeeping and hints.
OF_THE_ENGINE = 5
# For a suspect with an async check, before it is run.
OF_THE_FEEDER = 1
UNPOOLED = CONCURRENCY + OF_THE_ENGINE + ASYNC_THREADS + OF_THE_FEEDER

WAYS: dict[str, tuple[dict[str, Any], int]] = {
    "as they come": ({}, UNPOOLED),
    "closed after each request": ({"CONN_MAX_AGE": 0}, UNPOOLED),
    "never closed": ({"CONN_MAX_AGE": None}, UNPOOLED),
    "each request a transaction": ({"ATOMIC_REQUESTS": True}, UNPOOLED),
    "Django's pool as it is": ({"OPTIONS": {"pool": True}}, 4 + OF_THE_ENGINE + OF_THE_FEEDER),
    "a pool for all": (
        {"OPTIONS": {"pool": {"min_size": 2, "max_size": CONCURRENCY + ASYNC_THREADS}}},
        UNPOOLED,
    ),
}


def in_use() -> int:
    """How many connections the server has, apart from this one."""
    with psycopg.connect(os.environ["TEST_DATABASE_URL"]) as direct:
        counted = direct.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s",
            [connections["default"].settings_dict["NAME"]],
        ).fetchone()
    assert counted is not None
    return int(counted[0])


@contextmanager
def configured(**settings: Any) -> Iterator[None]:
    with detour(**settings):
        try:
            yield
        finally:
            connection.close()
            connection.close_pool()  # type: ignore[attr-defined]


@pytest.mark.parametrize("way", WAYS)
def test_there_are_no_more_than_documented(
    start_runner: Callable[..., Embedded], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    async def count(row: Errand) -> str:
        return "done" if await Errand.objects.acount() else "failed"

    monkeypatch.setitem(errands.ERRANDS, "count", count)
    settings, bound = WAYS[way]
    chains = Rows(150, pause=0.005)
    many = Errand.objects.bulk_create(Errand(mode="count") for _ in range(100))
    most = 0

    with configured(**settings):
        runner = start_runner(
            Chain, Errand, concurrency=CONCURRENCY, async_threads=ASYNC_THREADS, lease=30
        )
        end = time.monotonic() + 30
        while not (chains.have_arrived() and set(states(many)) == {"done"}):
            connection.close()
            most = max(most, in_use())
            assert time.monotonic() < end
        runner.stop()

    assert OF_THE_ENGINE < most <= bound
    connection.close()
    eventually(lambda: in_use() == 0)
    chains.prove_once_each()


def descriptors() -> int:
    """How many files and sockets this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_outages_leave_no_connection_behind(
    start_runner: Callable[..., Embedded], server: Server, request: pytest.FixtureRequest
) -> None:
    outages = 1000 if request.config.getoption("long") else 30
    runner = start_runner(Chain, concurrency=CONCURRENCY, lease=2)
    rows = Rows(50, pause=0.005)
    eventually(rows.have_arrived)
    connection.close()
    others = descriptors() - in_use()

    for number in range(outages):
        rows.add(5)
        connection.close()
        time.sleep(0.05 * (1 + number % 3))
        server.end_all_connections()
    eventually(rows.have_arrived, 20)
    connection.close()

    assert in_use() <= CONCURRENCY + OF_THE_ENGINE
    eventually(lambda: descriptors() - in_use() <= others)
    assert runner.alive
    rows.prove_once_each()
