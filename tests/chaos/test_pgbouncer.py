"""Everything works behind PgBouncer in transaction mode, where no session lasts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import psycopg
import pytest
from django.db import connection, connections

from django_fsmworker.diagnosis.doctor import examine
from django_fsmworker.runner import hints
from tests import programs
from tests.app.models import Attachment, Chain, CheckLog, Errand, Expiring, Trouble, errands
from tests.chaos.cluster import said_of_outages
from tests.chaos.redirect import redirected, through_proxy
from tests.chaos.rows import Rows
from tests.pgbouncer import POOL_SIZE, PgBouncer, running_pgbouncer
from tests.runner.embedded import Embedded
from tests.runner.rows import entered, failure, fresh, path
from tests.runner.server import Server
from tests.waiting import eventually

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

Start = Callable[..., Embedded]


# Ask for it before ``start_runner``: a runner is stopped before the pooler is.
@pytest.fixture
def pooler() -> Iterator[PgBouncer]:
    server = connections["default"].settings_dict
    with running_pgbouncer(programs.pgbouncer(), server) as pooler:
        with redirected(**through_proxy(pooler.port), DISABLE_SERVER_SIDE_CURSORS=True):
            yield pooler


def test_rows_of_all_kinds_are_run(
    pooler: PgBouncer,
    server: Server,
    start_runner: Start,
    mode: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def count(row: Errand) -> str:
        return "done" if await Errand.objects.acount() else "failed"

    mode("iterate", lambda row: "done" if list(Trouble.objects.iterator(chunk_size=1)) else None)
    monkeypatch.setitem(errands.ERRANDS, "count", count)
    chains = Rows(100, pause=0.005)
    quick = [
        *(Trouble.objects.create(mode="iterate") for _ in range(5)),
        *(Errand.objects.create(mode="count") for _ in range(20)),
    ]
    failing, old = Trouble.objects.create(mode="raise"), Expiring.objects.create(state="gone")
    Attachment.objects.create(row=old)
    entered(old, 11)

    start_runner(Chain, Trouble, Errand, Expiring, delete_interval=0.1)
    eventually(chains.have_arrived, 60)
    most = server.connections()
    eventually(lambda: {fresh(row).state for row in quick} == {"done"})
    eventually(lambda: not Expiring.objects.exists())
    eventually(lambda: failure(failing))

    chains.prove_once_each()
    noted = failure(failing)
    assert noted is not None
    assert noted.count == fresh(failing).state_failures == 1
    assert 1 < most <= POOL_SIZE


def test_hints_do_not_arrive_which_is_said_once(
    pooler: PgBouncer,
    start_runner: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "django_fsmworker")
    monkeypatch.setattr(hints, "PROBE_PATIENCE", 0.3)
    monkeypatch.setattr(hints, "PROBE_INTERVAL", 0.3)

    runner = start_runner(Chain, poll_interval=0.2)
    hearing = runner.runner.hints
    eventually(lambda: "do not arrive" in caplog.text)
    row = Chain.objects.create()
    eventually(lambda: fresh(row).state == "last")
    eventually(lambda: runner.total("moved") == 3)

    assert not hearing.active
    assert not runner.runner.stores[Chain].session_lasts()
    assert caplog.text.count("do not arrive") == 1
    assert path(row) == ["first", "second", "third", "last"]


def test_transactions_are_at_read_committed_whatever_the_project_s_are(
    pooler: PgBouncer, start_runner: Start, mode: Callable[..., None]
) -> None:
    levels = []

    def look(row: Trouble) -> str:
        with connections["default"].cursor() as cursor:
            cursor.execute("SHOW transaction_isolation")
            levels.extend(cursor.fetchone())
        return "done"

    mode("look", look)
    options = connections["default"].settings_dict["OPTIONS"]
    serializable = {**options, "isolation_level": psycopg.IsolationLevel.SERIALIZABLE}
    with redirected(OPTIONS=serializable):
        row = Trouble.objects.create(state="strict", mode="look")

        runner = start_runner(Trouble)
        eventually(lambda: fresh(row).state == "done")
        runner.stop()

    assert levels == ["read committed"]
    assert CheckLog.objects.count() == 1


def test_the_doctor_sees_it(pooler: PgBouncer, monkeypatch: pytest.MonkeyPatch) -> None:
    def codes() -> list[str]:
        return [each.code for each in examine([], "default")]

    assert "pooler" not in codes()
    monkeypatch.setitem(connections["default"].settings_dict, "DISABLE_SERVER_SIDE_CURSORS", False)
    assert "pooler" in codes()


def test_a_pooler_that_is_killed_and_started_again(
    pooler: PgBouncer, start_runner: Start, caplog: pytest.LogCaptureFixture
) -> None:
    rows = Rows(100, pause=0.01)
    runner = start_runner(Chain, lease=1)
    eventually(rows.are_under_way)

    pooler.kill()
    eventually(lambda: said_of_outages(caplog.messages))
    pooler.start()
    connection.close()
    eventually(rows.have_arrived, 60)
    eventually(lambda: said_of_outages(caplog.messages)[-1] == "back")

    rows.prove_once_each()
    assert runner.alive
    assert said_of_outages(caplog.messages) == ["away", "back"]
