"""A running fleet under load, and a server that fails in every way a server fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from django.db import connection

from tests.chaos.cluster import LEASE, MOST_CONNECTIONS, Cluster, running_cluster
from tests.chaos.rows import Rows
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

SHORT, LONG = 1.0, 60.0
# A slow machine takes seconds for what follows a fault; who waits for what will not come takes ten
# seconds for a driver's patience, or minutes. A lease that was held at the fault ends, and the rows
# take their steps.
CLAIMED, ARRIVED = 12, LEASE + 20


@pytest.fixture(scope="module")
def cluster(
    django_db_setup: None, django_db_blocker: Any, database_environment: dict[str, str]
) -> Iterator[Cluster]:
    with django_db_blocker.unblock(), running_cluster(database_environment) as cluster:
        yield cluster


@pytest.fixture
def another_cluster(database_environment: dict[str, str]) -> Iterator[Cluster]:
    """For what cannot be undone: a server whose clock is another one is left behind."""
    with running_cluster(database_environment) as cluster:
        yield cluster


def wait(seconds: float) -> None:
    """As long as a fault lasts, which is what is tried here: nothing is waited for."""
    end = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > end, seconds + 5)


@contextmanager
def restarted(cluster: Cluster) -> Iterator[None]:
    """The server is gone from one moment to the next, and comes back with what was committed."""
    cluster.server.restart()
    yield


@contextmanager
def terminated(cluster: Cluster) -> Iterator[None]:
    """Connections ended by an administrator."""
    eventually(lambda: cluster.connections() >= 8)
    assert cluster.end_all_connections() >= 8
    yield


@contextmanager
def crowded(cluster: Cluster) -> Iterator[None]:
    """``max_connections`` reached: while the fleet was cut off, others have taken every place."""
    opened: list[Any] = []
    try:
        with cluster.proxy.away():
            eventually(lambda: cluster.take_all_connections(opened) == MOST_CONNECTIONS)
        wait(SHORT)
    finally:
        for each in opened:
            each.close()
    yield


@contextmanager
def full(cluster: Cluster) -> Iterator[None]:
    with cluster.full_disk():
        wait(SHORT)
    yield


@contextmanager
def read_only(cluster: Cluster) -> Iterator[None]:
    with cluster.read_only():
        wait(SHORT)
    yield


@contextmanager
def swallowed(cluster: Cluster) -> Iterator[None]:
    """Connections that stay open and carry nothing any more, and nobody to answer new ones."""
    with cluster.proxy.swallowing():
        wait(4)
    yield


@contextmanager
def dead(cluster: Cluster) -> Iterator[None]:
    """A network without a way to the server, and old connections nobody tells of it."""
    with cluster.proxy.away():
        wait(SHORT)
    yield


@contextmanager
def delayed(cluster: Cluster) -> Iterator[None]:
    """A network that takes its time, each way; nothing is wrong with that."""
    cluster.proxy.delay = 0.1
    try:
        wait(SHORT)
    finally:
        cluster.proxy.delay = 0.0
    yield


@contextmanager
def dead_for_a_minute(cluster: Cluster) -> Iterator[None]:
    with cluster.proxy.away():
        wait(LONG)
    yield


@contextmanager
def swallowed_for_a_minute(cluster: Cluster) -> Iterator[None]:
    with cluster.proxy.swallowing():
        wait(LONG)
    yield


Fault = Callable[[Cluster], AbstractContextManager[None]]
Show = pytest.CaptureFixture[str]


FAULTS = [restarted, terminated, crowded, full, read_only, swallowed, dead, delayed]
OF_A_MINUTE = [dead_for_a_minute, swallowed_for_a_minute]


@pytest.mark.postgresql
@pytest.mark.mysql
@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_lost_and_nothing_is_doubled(
    cluster: Cluster, fault: Fault, capsys: Show
) -> None:
    survive(cluster, fault, capsys)


@pytest.mark.long
@pytest.mark.postgresql
@pytest.mark.mysql
@pytest.mark.parametrize("fault", OF_A_MINUTE)
def test_nothing_is_lost_and_nothing_is_doubled_in_a_minute(
    cluster: Cluster, fault: Fault, capsys: Show
) -> None:
    survive(cluster, fault, capsys)


@pytest.mark.postgresql
def test_a_copy_takes_over_whose_clock_is_a_minute_ahead(
    another_cluster: Cluster, capsys: Show
) -> None:
    """A standby that has every commit; all leases have lapsed there, and the fence decides."""
    survive(another_cluster, failing_over(another_cluster, seconds_ahead=60), capsys)


@pytest.mark.postgresql
@pytest.mark.parametrize("seconds", [15, pytest.param(60, marks=pytest.mark.long)])
def test_a_copy_takes_over_whose_clock_is_behind(
    another_cluster: Cluster, capsys: Show, seconds: int
) -> None:
    """
    What was due is due when that clock has caught up, and what was claimed is held until then.

    Rows that are made from there on by machines with the old clock wait as long; no row longer.
    """
    behind = failing_over(another_cluster, seconds_ahead=-seconds)
    survive(another_cluster, behind, capsys, late=seconds)


def failing_over(cluster: Cluster, seconds_ahead: float) -> Fault:
    """A copy of the server stands by from now on, and takes its place as the fault."""
    copy = cluster.server.copy(seconds_ahead)
    cluster.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    cluster.execute("SELECT pg_reload_conf()")
    synchronous = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
    eventually(lambda: cluster.execute(synchronous))

    @contextmanager
    def failed_over(cluster: Cluster) -> Iterator[None]:
        cluster.server.stop()
        cluster.server = copy
        cluster.execute("SELECT pg_promote()")
        cluster.proxy.move_to(("127.0.0.1", copy.port))
        yield

    return failed_over


def survive(cluster: Cluster, fault: Fault, capsys: Show, late: float = 0) -> None:
    """Break it while rows are under way, mend it, and see what the rows prove.

    ``late`` are the seconds by which its clock is behind from then on, for which rows may wait.
    """
    rows = Rows(every=0.2)
    eventually(rows.are_under_way)
    cluster.said_until_back()
    connection.close()

    began = time.monotonic()
    with fault(cluster):
        back = time.monotonic()
    connection.close()
    waited = rows.seconds_until_claimed(late + 30)
    eventually(rows.have_arrived, late + 30)

    arrived = time.monotonic() - back
    ledger = rows.prove_once_each()
    said = cluster.said_until_back()
    with capsys.disabled():
        print(
            f"\n{fault.__name__}: away for {back - began:.1f} s, claimed after {waited:.1f} s, all "
            f"arrived after {arrived:.1f} s, {ledger.again()} checks run again; {said}"
        )
    assert waited < late + CLAIMED
    assert arrived < late + ARRIVED
    assert all(each in ([], ["away", "back"]) for each in said)
    assert any(said) is (fault is not delayed)
