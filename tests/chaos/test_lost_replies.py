"""The server did what it was told, and its answer is lost on the way: for every statement there is.

Nobody can tell this from a statement that never arrived. So each may be sent again, and finds that
it has nothing to do.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from django.db import connection, connections

from django_fsmworker.models.records import FailureRecord
from django_fsmworker.runner import preflight
from django_fsmworker.runner.execution import atomic, suspects, writing
from django_fsmworker.store import expiry, store_for
from tests.app.models import Attachment, Chain, CheckLog, Expiring, Trouble
from tests.chaos.proxy import Proxy, Trap
from tests.chaos.redirect import redirected, through_proxy
from tests.chaos.rows import Rows
from tests.chaos.wire_protocol import WIRES
from tests.databases import chosen_vendor
from tests.runner.embedded import Embedded, one_pass
from tests.runner.rows import entered, failure, fresh, lapse, path
from tests.waiting import eventually

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.mysql,
    pytest.mark.django_db(transaction=True),
]

LEASE = 1.0

STORE = type(store_for("default"))
# What does it all in one statement elsewhere is a transaction on MariaDB: what is lost before its
# end was not done.
PARTS = ["(PRIMARY) SET", "COMMIT"] if chosen_vendor() == "mysql" else [""]
STATEMENTS = [("peek", ""), *product(["claim", "settle", "advance", "renew"], PARTS)]

Start = Callable[..., Embedded]
Lose = Callable[..., Trap]


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Before the server under test."""
    settings = connections["default"].settings_dict
    target = settings["HOST"], int(settings["PORT"])
    with Proxy(target, WIRES[connection.vendor]) as proxy:
        with redirected(**through_proxy(proxy.port)):
            yield proxy


# Ask for it before ``start_runner``: a runner is stopped before the proxy is.
@pytest.fixture
def lose(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Lose:
    """``lose(owner, name, words)``: once, the answer to a query of that function, and all after.

    Without ``words`` it is the first query that the calling thread sends from there on.
    """

    def replace(owner: Any, name: str, words: str = "") -> Trap:
        function, trap = getattr(owner, name), Trap(words.encode(), reply=True, client=0)

        def losing(*arguments: Any, **options: Any) -> Any:
            if not trap.client:
                trap.client = client_port()
                proxy.traps.append(trap)
            return function(*arguments, **options)

        monkeypatch.setattr(owner, name, losing)
        return trap

    return replace


def client_port() -> int:
    """By which the proxy knows the calling thread's connection."""
    connection.ensure_connection()
    raw: Any = connection.connection
    own = raw if hasattr(raw, "fileno") else raw._sock  # PyMySQL's
    with socket.socket(fileno=os.dup(own.fileno())) as same:
        port: int = same.getsockname()[1]
        return port


@pytest.mark.parametrize(("statement", "words"), STATEMENTS)
def test_a_statement_of_a_running_runner(
    lose: Lose, start_runner: Start, statement: str, words: str
) -> None:
    # Renewed is what has used up a third of its lease; every sixth of one that is looked at.
    rows = Rows(10, pause=0.7 * LEASE if statement == "renew" else 0.05)
    trap = lose(STORE, statement, words)

    runner = start_runner(Chain, concurrency=10, lease=LEASE)
    eventually(trap.sprung.is_set)
    # What was claimed under a token that nobody knows is taken over after a lease; not only when
    # the lane is looked at from its start, half a minute later.
    eventually(rows.have_arrived, 20)

    assert runner.alive
    rows.prove_once_each()


def test_looking_at_the_tables_before_it_starts(lose: Lose, start_runner: Start) -> None:
    rows = Rows(1)
    trap = lose(preflight, "check_tables")

    start_runner(Chain)
    eventually(rows.have_arrived)

    assert trap.sprung.is_set()


def test_rows_are_handed_back_once_although_the_reply_is_lost(
    lose: Lose, start_runner: Start
) -> None:
    rows = Rows(6, pause=2)  # the first check still runs when the runner stops, the next one waits
    trap = lose(STORE, "hand_back", PARTS[-1])
    runner = start_runner(Chain, concurrency=1, lease=30)
    eventually(lambda: CheckLog.objects.exists() and Chain.objects.running().count() > 1)

    runner.stop()

    assert trap.sprung.is_set()
    assert not Chain.objects.running().exists()
    Chain.objects.update(pause=0.01)
    one_pass(Chain)
    start_runner(Chain, concurrency=6)
    eventually(rows.have_arrived)
    rows.prove_once_each()


def test_asking_whether_a_row_is_still_held(
    lose: Lose, start_runner: Start, held_check: Any
) -> None:
    row = Trouble.objects.create(mode="held")
    trap = lose(STORE, "still_held")
    runner = start_runner(Trouble)
    eventually(lambda: held_check.begun)

    fresh(row).state_transition("waiting")
    held_check.released.set()
    eventually(lambda: runner.total("superseded") == 1)

    assert trap.sprung.is_set()
    assert path(row) == ["new", "waiting"]


def test_recording_a_failure(lose: Lose, start_runner: Start) -> None:
    row = Trouble.objects.create(mode="raise")
    trap = lose(writing, "record", "COMMIT")

    runner = start_runner(Trouble)
    eventually(lambda: runner.total("superseded") == 1)

    assert trap.sprung.is_set()
    noted = failure(row)
    assert noted is not None
    assert (noted.count, fresh(row).state_failures, fresh(row).state) == (1, 1, "new")


def test_counting_the_death_that_a_suspect_may_bring(lose: Lose, start_runner: Start) -> None:
    row = Trouble.objects.create()
    lapse([row])
    trap = lose(suspects, "count_deaths", "COMMIT")

    start_runner(Trouble)
    eventually(lambda: fresh(row).state == "done")

    assert trap.sprung.is_set()
    assert path(row) == ["new", "done"]
    assert not FailureRecord.objects.exclude(deaths=0).exists()
    assert not FailureRecord.objects.filter(resolved=None).exists()


def test_a_check_and_its_transition_in_one_transaction(lose: Lose, start_runner: Start) -> None:
    """What it wrote is there once: it is not run again, since the row has moved."""
    row = Trouble.objects.create(state="strict")
    trap = lose(atomic, "write", "COMMIT")

    start_runner(Trouble)
    eventually(lambda: fresh(row).state == "done")

    assert trap.sprung.is_set()
    assert path(row) == ["strict", "done"]
    assert CheckLog.objects.count() == 1


def test_deleting_what_has_expired(lose: Lose, start_runner: Start) -> None:
    rows = [Expiring.objects.create(state="gone") for _ in range(5)]
    for row in rows:
        Attachment.objects.create(row=row)
        entered(row, 11)
    trap = lose(expiry, "_delete", "COMMIT")

    runner = start_runner(Expiring, delete_interval=0.1)
    eventually(lambda: trap.sprung.is_set())
    late = Expiring.objects.create(state="gone")
    entered(late, 11)
    eventually(lambda: not Expiring.objects.exists())

    assert runner.alive
    assert not Attachment.objects.exists()
    assert not FailureRecord.objects.exists()
