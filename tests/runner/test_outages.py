"""A database that goes away and comes back: said once, nothing lost, nobody blamed."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from django.db import connection, connections, transaction

from django_fsmworker.models.records import FailureRecord
from tests.app.models import Chain, Trouble
from tests.app.models.trouble import log_check
from tests.runner.embedded import Embedded
from tests.runner.rows import fresh
from tests.runner.server import Server
from tests.runner.statement_log import statements

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]

AWAY = "The database 'default' is away ("
BACK = "The database 'default' is back."


def logged_chains(number: int) -> None:
    Chain.objects.bulk_create(Chain(pause=0.02) for _ in range(number))


def all_in_the_last_state() -> bool:
    connection.close_if_unusable_or_obsolete()
    return not Chain.objects.exclude(state="last").exists()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text[:9] for text in caplog.messages if text.startswith(AWAY) or text == BACK]


@pytest.mark.postgresql
@pytest.mark.mysql
class TestServers:
    def test_connections_that_are_ended_again_and_again(
        self, start_runner: Start, eventually: Eventually, server: Server
    ) -> None:
        runner = start_runner(Chain)

        ended = 0
        for _ in range(5):
            moved = runner.total("moved")
            logged_chains(20)
            connection.close()
            eventually(lambda moved=moved: runner.total("moved") > moved, 30)
            eventually(lambda: server.connections() > 1, 30)
            ended += server.end_all_connections()
        eventually(all_in_the_last_state, 30)

        assert ended > 5
        assert runner.alive
        eventually(lambda: runner.working_threads() == 4, 30)
        assert not Chain.objects.failing().exists()
        assert not FailureRecord.objects.exists()

    def test_a_server_that_refuses_connections_for_a_while(
        self,
        start_runner: Start,
        eventually: Eventually,
        server: Server,
        refused: list[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        logged_chains(100)
        runner = start_runner(Chain)
        eventually(lambda: Chain.objects.filter(state="second").exists())
        connection.close()

        with server.away():
            eventually(lambda: len(refused) >= 12, 30)
            assert said(caplog) == [AWAY[:9]]
        eventually(all_in_the_last_state, 30)

        eventually(lambda: said(caplog) == [AWAY[:9], BACK[:9]])
        assert runner.alive
        assert not Chain.objects.failing().exists()
        assert not FailureRecord.objects.exists()

    def test_one_broken_connection_each_is_said_once(
        self,
        start_runner: Start,
        eventually: Eventually,
        server: Server,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        logged_chains(40)
        runner = start_runner(Chain)
        eventually(lambda: Chain.objects.filter(state="second").exists())
        connection.close()

        server.end_all_connections()
        eventually(all_in_the_last_state, 30)

        assert runner.alive
        eventually(lambda: said(caplog) in ([], [AWAY[:9], BACK[:9]]))

    @pytest.mark.parametrize("in_transaction", [False, True])
    def test_a_check_that_the_outage_hits_is_interrupted_not_failed(
        self,
        start_runner: Start,
        eventually: Eventually,
        server: Server,
        mode: Callable[..., None],
        in_transaction: bool,
    ) -> None:
        runs = []

        def sleep_in_the_database(row: Trouble) -> str:
            runs.append(row.pk)
            if len(runs) == 1:
                with connection.cursor() as cursor:
                    cursor.execute(server.sleep)
            return "done"

        def in_a_transaction(row: Trouble) -> str:
            with transaction.atomic():
                return sleep_in_the_database(row)

        mode("query", in_a_transaction if in_transaction else sleep_in_the_database)
        warm = Trouble.objects.create(mode="query_first")
        mode("query_first", lambda row: Trouble.objects.count() and "done")
        runner = start_runner(Trouble, concurrency=1, deadline=20)
        eventually(lambda: fresh(warm).state == "done")
        row = Trouble.objects.create(mode="query")
        eventually(lambda: runs)
        connection.close()

        server.end_all_connections()
        connection.close()
        eventually(lambda: fresh(row).state == "done")

        assert runs == [row.pk, row.pk]
        assert not FailureRecord.objects.exists()
        assert runner.total("interrupted") == 1
        assert runner.total("failed") == 0

    def test_an_outcome_that_is_ready_when_the_database_goes_is_offered_when_it_is_back(
        self,
        start_runner: Start,
        eventually: Eventually,
        server: Server,
        refused: list[str],
        held_check: Any,
    ) -> None:
        row = Trouble.objects.create(mode="held")
        runner = start_runner(Trouble, lease=120)
        eventually(lambda: held_check.begun)
        connection.close()

        with server.away():
            held_check.released.set()
            eventually(lambda: not runner.runner.status().threads.running)
            tried = len(refused)
            eventually(lambda: len(refused) >= tried + 4, 30)
        connection.close()

        eventually(lambda: fresh(row).state == "done", 30)
        assert held_check.begun == [row.pk], "it was not run again"

    def test_a_runner_can_be_stopped_while_the_database_is_away(
        self, start_runner: Start, eventually: Eventually, server: Server
    ) -> None:
        Trouble.objects.create(mode="loop")
        runner = start_runner(Trouble, deadline=60)
        eventually(lambda: runner.runner.status().threads.running)
        connection.close()

        with server.away():
            began = time.monotonic()
            runner.stop(timeout=0.2)
            assert time.monotonic() - began < 20  # most of it for the settler, which may wait 5 s
        connection.close()


class Gate:
    """Lets checks go on once the file is locked, so that none has ended by then."""

    def __init__(self, then: Callable[[Any], Any]) -> None:
        self._then = then
        self.begun: list[Any] = []
        self.locked = threading.Event()

    def __call__(self, row: Any) -> str:
        self.begun.append(row.pk)
        assert self.locked.wait(60)
        self._then(row)
        return "done"


@contextmanager
def locked_file(gate: Gate) -> Iterator[None]:
    with closing(sqlite3.connect(connection.settings_dict["NAME"], timeout=30)) as other:
        other.execute("BEGIN EXCLUSIVE")
        gate.locked.set()
        yield
        other.rollback()


def all_are_done() -> bool:
    return not Trouble.objects.exclude(state="done").exists()


@pytest.mark.sqlite
class TestSQLite:
    def test_a_file_that_somebody_has_locked_for_a_while(
        self, start_runner: Start, eventually: Eventually, mode: Callable[..., None]
    ) -> None:
        gate = Gate(log_check)
        mode("log", gate)
        Trouble.objects.bulk_create(Trouble(mode="log") for _ in range(60))
        with statements() as sent:
            runner = start_runner(Trouble, deadline=60)
            eventually(lambda: len(gate.begun) == 4)

            with locked_file(gate):
                eventually(lambda: sent.unanswered >= 4, 30)
            eventually(all_are_done, 30)

        assert runner.alive
        assert not FailureRecord.objects.exists()

    def test_a_lock_that_outlasts_the_busy_timeout(
        self,
        start_runner: Start,
        eventually: Eventually,
        monkeypatch: pytest.MonkeyPatch,
        mode: Callable[..., None],
    ) -> None:
        monkeypatch.setitem(connections.settings["default"]["OPTIONS"], "timeout", 0.1)
        gate = Gate(lambda row: None)
        mode("wait", gate)
        Trouble.objects.bulk_create(Trouble(mode="wait") for _ in range(60))
        with statements() as sent:
            runner = start_runner(Trouble, deadline=60)
            eventually(lambda: len(gate.begun) == 4)

            with locked_file(gate):
                before = len(sent.errors)
                eventually(lambda: len(sent.errors) >= before + 5, 30)
            eventually(all_are_done, 30)

        assert runner.alive
        eventually(lambda: runner.working_threads() == 4, 30)
        assert not FailureRecord.objects.exists()
