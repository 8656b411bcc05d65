"""A running fleet under load, and a server that fails in every way a server fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from django.db import connection

from tests.chaos.house import MOST_CONNECTIONS, House, inhabited
from tests.chaos.rows import Rows
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

SHORT, LONG = 1.0, 60.0


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
    """The server is gone from one moment to the next, and comes back with what was committed."""
    house.server.restart()
    yield


@contextmanager
def terminated(house: House) -> Iterator[None]:
    """Connections ended by an administrator."""
    assert house.end_all_connections() >= 8
    yield


@contextmanager
def crowded(house: House) -> Iterator[None]:
    """``max_connections`` reached: while the fleet was cut off, others have taken every place."""
    crowd: list[Any] = []
    try:
        with house.proxy.away():
            eventually(lambda: house.crowd(crowd) == MOST_CONNECTIONS)
        wait(SHORT)
    finally:
        for each in crowd:
            each.close()
    yield


@contextmanager
def full(house: House) -> Iterator[None]:
    with house.full_disk():
        wait(SHORT)
    yield


@contextmanager
def read_only(house: House) -> Iterator[None]:
    with house.read_only():
        wait(SHORT)
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


@contextmanager
def dead_for_a_minute(house: House) -> Iterator[None]:
    with house.proxy.away():
        wait(LONG)
    yield


@contextmanager
def swallowed_for_a_minute(house: House) -> Iterator[None]:
    with house.proxy.swallowing():
        wait(LONG)
    yield


Fault = Callable[[House], AbstractContextManager[None]]
Show = pytest.CaptureFixture[str]


FAULTS = [restarted, terminated, crowded, full, read_only, swallowed, dead, delayed]
OF_A_MINUTE = [dead_for_a_minute, swallowed_for_a_minute]


@pytest.mark.postgresql
@pytest.mark.mysql
@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_lost_and_nothing_is_doubled(house: House, fault: Fault, capsys: Show) -> None:
    survive(house, fault, capsys)


@pytest.mark.long
@pytest.mark.postgresql
@pytest.mark.mysql
@pytest.mark.parametrize("fault", OF_A_MINUTE)
def test_nor_in_a_minute(house: House, fault: Fault, capsys: Show) -> None:
    survive(house, fault, capsys)


@pytest.mark.postgresql
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
