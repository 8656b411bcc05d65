"""A running fleet under load, and a server that fails in every way a server fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import psycopg
import pytest
from django.db import connection

from tests.chaos.house import MOST_CONNECTIONS, House, inhabited
from tests.chaos.rows import Rows
from tests.waiting import eventually

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

SHORT = 1.0


@pytest.fixture(scope="module")
def house(
    django_db_setup: None, django_db_blocker: Any, database_environment: dict[str, str]
) -> Iterator[House]:
    with django_db_blocker.unblock(), inhabited(database_environment) as house:
        yield house


def wait(seconds: float) -> None:
    end = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > end, seconds + 5)


@contextmanager
def restarted(house: House) -> Iterator[None]:
    """``pg_ctl restart -m immediate``."""
    house.server.restart()
    yield


@contextmanager
def terminated(house: House) -> Iterator[None]:
    """Backends terminated by an administrator."""
    assert house.end_all_connections() >= 8
    yield


@contextmanager
def crowded(house: House) -> Iterator[None]:
    """``max_connections`` reached: while the fleet was cut off, others have taken every place."""
    crowd: list[psycopg.Connection[Any]] = []
    try:
        with house.proxy.away():
            eventually(lambda: fill(crowd, house.server.url) == MOST_CONNECTIONS)
        wait(SHORT)
    finally:
        for each in crowd:
            each.close()
    yield


def fill(crowd: list[psycopg.Connection[Any]], url: str) -> int:
    with suppress(psycopg.OperationalError):  # sorry, too many clients already
        while True:
            crowd.append(psycopg.connect(url, autocommit=True))
    return len(crowd)


@contextmanager
def full(house: House) -> Iterator[None]:
    """No space left on the server's disk, says the server, for whatever is written to the rows."""
    house.execute(
        """
        CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'could not extend file: No space left on device'
            USING ERRCODE = '53100'; END $$;
        CREATE TRIGGER full_disk BEFORE UPDATE ON testapp_chain EXECUTE FUNCTION full_disk();
        """
    )
    try:
        wait(SHORT)
    finally:
        house.execute("DROP FUNCTION full_disk CASCADE")
    yield


@contextmanager
def swallowed(house: House) -> Iterator[None]:
    """Connections that stay open and carry nothing any more, and nobody to answer new ones."""
    with house.proxy.swallowing():
        wait(4)
    yield


@contextmanager
def dead(house: House) -> Iterator[None]:
    """A network without a way to the server, and old connections nobody tells of it."""
    with house.proxy.away():
        wait(SHORT)
    yield


@contextmanager
def delayed(house: House) -> Iterator[None]:
    """A network that takes its time, each way; nothing is wrong with that."""
    house.proxy.delay = 0.1
    try:
        wait(SHORT)
    finally:
        house.proxy.delay = 0.0
    yield


Fault = Callable[[House], AbstractContextManager[None]]
Show = pytest.CaptureFixture[str]


@pytest.mark.parametrize("fault", [restarted, terminated, crowded, full, swallowed, dead, delayed])
def test_nothing_is_lost_and_nothing_is_doubled(house: House, fault: Fault, capsys: Show) -> None:
    survive(house, fault, capsys)


def test_a_copy_takes_over_whose_clock_is_a_minute_ahead(house: House, capsys: Show) -> None:
    """A standby that has every commit; all leases have lapsed there, and the fence decides."""
    copy = house.server.copy(seconds_ahead=60)
    house.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    house.execute("SELECT pg_reload_conf()")
    synchronous = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
    eventually(lambda: house.execute(synchronous))

    @contextmanager
    def failed_over(house: House) -> Iterator[None]:
        house.server.stop()
        house.server = copy
        house.execute("SELECT pg_promote()")
        house.proxy.move_to(("127.0.0.1", copy.port))
        yield

    survive(house, failed_over, capsys)


def survive(house: House, fault: Fault, capsys: Show) -> None:
    """Break it while rows are under way, mend it, and see what the rows prove."""
    rows = Rows()
    eventually(rows.are_under_way, 20)
    house.said()
    connection.close()

    began = time.monotonic()
    with fault(house):
        back = time.monotonic()
    connection.close()
    waited = rows.seconds_until_claimed()
    eventually(rows.have_arrived, 30)

    arrived = time.monotonic() - back
    ledger = rows.prove_once_each()
    said = house.said_until_back()
    with capsys.disabled():
        print(
            f"\n{fault.__name__}: away for {back - began:.1f} s, claimed after {waited:.1f} s, all "
            f"arrived after {arrived:.1f} s, {ledger.again()} checks run again; {said}"
        )
    assert waited < 5
    assert all(each in ([], ["away", "back"]) for each in said)
    assert any(said) is (fault is not delayed)
