"""How many connections a runner has: never more than documented, and none when it has ended."""

from __future__ import annotations

import gc
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection

from django_fsmworker.runner.database import connections as runner_connections
from django_fsmworker.runner.database.connections import use_own_connections
from django_fsmworker.runner.database.outages import OutageTracker, QueryGuard
from tests.app.models import Chain, Errand, errands
from tests.chaos.redirect import redirected, through_proxy
from tests.chaos.rows import Rows
from tests.runner.embedded import Embedded
from tests.runner.rows import states
from tests.runner.server import Server
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

CONCURRENCY, ASYNC_THREADS = 10, 4
# One each for claiming, settling, renewing, housekeeping, signs of life and hints.
OF_THE_ENGINE = 6
# For a suspect with an async check, before it is run.
OF_THE_FEEDER = 1
UNPOOLED = CONCURRENCY + OF_THE_ENGINE + ASYNC_THREADS + OF_THE_FEEDER

ANYWHERE = [pytest.mark.postgresql, pytest.mark.mysql]
WAYS: dict[str, dict[str, Any]] = {
    "as they come": {},
    "closed after each request": {"CONN_MAX_AGE": 0},
    "never closed": {"CONN_MAX_AGE": None},
    "each request a transaction": {"ATOMIC_REQUESTS": True},
}
POOLS: dict[str, tuple[dict[str, Any] | bool, int]] = {
    "Django's pool as it is": (True, 4 + OF_THE_ENGINE + OF_THE_FEEDER),
    "a pool for all": ({"min_size": 2, "max_size": CONCURRENCY + ASYNC_THREADS}, UNPOOLED),
}


def session() -> int:
    """What the server calls this thread's connection."""
    raw: Any = connection.connection
    return int(raw.info.backend_pid if connection.vendor == "postgresql" else raw.thread_id())


@contextmanager
def configured(**settings: Any) -> Iterator[None]:
    with redirected(**settings):
        try:
            yield
        finally:
            connection.close()
            if connection.vendor == "postgresql":
                connection.close_pool()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("settings", "bound"),
    [
        *(pytest.param(way, UNPOOLED, id=id, marks=ANYWHERE) for id, way in WAYS.items()),
        *(
            pytest.param({"OPTIONS": {"pool": pool}}, bound, id=id, marks=pytest.mark.postgresql)
            for id, (pool, bound) in POOLS.items()
        ),
    ],
)
def test_there_are_no_more_than_documented(
    start_runner: Callable[..., Embedded],
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    bound: int,
) -> None:
    async def count(row: Errand) -> str:
        return "done" if await Errand.objects.acount() else "failed"

    monkeypatch.setitem(errands.ERRANDS, "count", count)
    chains = Rows(150, pause=0.005)
    many = Errand.objects.bulk_create(Errand(mode="count") for _ in range(100))
    most = 0
    # This thread's, which may be seen for a moment after they were closed; a pool's are the pool's.
    own: set[int] = set()

    with configured(**settings):
        runner = start_runner(
            Chain, Errand, concurrency=CONCURRENCY, async_threads=ASYNC_THREADS, lease=30
        )
        end = time.monotonic() + 90
        while not (chains.have_arrived() and set(states(many)) == {"done"}):
            if "OPTIONS" not in settings:
                own.add(session())
            connection.close()
            most = max(most, server.connections(without=own))
            assert time.monotonic() < end
        runner.stop()

    assert OF_THE_ENGINE < most <= bound
    connection.close()
    eventually(lambda: server.connections() == 0)
    chains.prove_once_each()


def leave(server: Server) -> None:
    """Close this thread's connection, of which the server may hear a moment later."""
    own = {session()}
    connection.close()
    eventually(lambda: server.connections() == server.connections(without=own))


def descriptors() -> int:
    """How many files and sockets this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.postgresql
@pytest.mark.mysql
@pytest.mark.longer
@pytest.mark.timeout(600)  # a thousand of them take minutes
def test_outages_leave_no_connection_behind(
    start_runner: Callable[..., Embedded], server: Server, request: pytest.FixtureRequest
) -> None:
    outages = 1000 if request.config.getoption("long") else 30
    runner = start_runner(Chain, concurrency=CONCURRENCY, lease=2)
    rows = Rows(50, pause=0.005)
    eventually(rows.have_arrived)
    leave(server)
    others = descriptors() - server.connections()

    for number in range(outages):
        rows.add(5)
        connection.close()
        time.sleep(0.05 * (1 + number % 3))
        server.end_all_connections()
    rows.add(100)
    eventually(rows.have_arrived, 60)
    leave(server)

    assert server.connections() <= CONCURRENCY + OF_THE_ENGINE
    # Threads of the engine that had nothing to ask since do not know yet that theirs has ended.
    eventually(lambda: descriptors() - server.connections() <= others + OF_THE_ENGINE)
    assert runner.alive
    rows.prove_once_each()


@pytest.mark.postgresql
@pytest.mark.mysql
def test_a_server_that_says_nothing_is_not_waited_for_long(
    start_thread: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the connection, and that is all."""
    monkeypatch.setattr(runner_connections, "CONNECT_TIMEOUT", 1)
    began = time.monotonic()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        with redirected(**through_proxy(silent.getsockname()[1])):
            thread = start_thread(connect)
            with pytest.raises(OperationalError):
                thread.result()

    assert time.monotonic() - began < 9  # the drivers' own patience is ten seconds or more


def connect() -> None:
    for own in use_own_connections(beside_pool=True):
        if own.alias == "default":
            own.ensure_connection()


@pytest.mark.postgresql
@pytest.mark.mysql
def test_a_try_to_connect_that_is_given_up_leaves_nothing_open(
    start_thread: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A network that has swallowed everything for a minute is back: the server meets those who still
    try, and not all tries of that minute, for which it would have no places.
    """
    monkeypatch.setattr(runner_connections, "CONNECT_TIMEOUT", 2)  # psycopg's shortest
    gc.disable()  # a runner's own collector comes seldom
    try:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            with redirected(**through_proxy(silent.getsockname()[1])):
                assert start_thread(connect_guarded).result(60) > 0
            client, _ = silent.accept()
            with client:
                client.settimeout(30)
                while client.recv(4096):
                    pass  # until the other end is closed
    finally:
        gc.enable()


def connect_guarded() -> float:
    use_own_connections(beside_pool=True)
    return QueryGuard(OutageTracker(), "default").connect()
