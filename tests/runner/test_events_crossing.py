"""Actions that write to each other's rows: the database ends some of them, and nothing is lost."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F, Sum
from django.test.utils import CaptureQueriesContext

from django_fsmworker.events import Submission, cancel_event, crossings, submit_events
from django_fsmworker.events.delivering import deliver
from django_fsmworker.graph import EventInfo
from django_fsmworker.models import Event, FailureRecord
from django_fsmworker.models.event import events_of
from django_fsmworker.runner.execution.middleware import around_events
from django_fsmworker.store import store_for
from tests.app.models import Account
from tests.app.models.accounts import ACTIONS
from tests.database.rows import claim
from tests.runner.embedded import Embedded, one_pass

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]
Act = Callable[[Callable[[Account, EventInfo], None]], None]


@pytest.fixture(autouse=True)
def nothing_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossings, "_until", {})


@pytest.fixture
def act(monkeypatch: pytest.MonkeyPatch) -> Act:
    return lambda function: monkeypatch.setitem(ACTIONS, "it", function)


def submission(row: Account, **context: Any) -> Submission:
    return Submission((Account, row.pk), "call", {"mode": "it", **context})


def transfer(row: Account, event: EventInfo) -> None:
    amount = event.context["amount"]
    Account.objects.filter(pk=event.context["to"]).update(balance=F("balance") + amount)
    row.balance -= amount


def assert_no_attempt_failed() -> None:
    assert not FailureRecord.objects.exists()
    assert not Event.objects.exclude(state="delivered", state_failures=0).exists()


@pytest.mark.postgresql
@pytest.mark.mysql
def test_a_deadlock_costs_no_attempt(
    act: Act, start_runner: Start, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [Account.objects.create() for _ in range(2)]
    tried = []
    both_locked = threading.Barrier(2)

    def meet(row: Account, event: EventInfo) -> None:
        tried.append(row.pk)
        if tried.count(row.pk) == 1:  # whoever is ended has another try, by itself
            both_locked.wait(30)
        transfer(row, event)

    act(meet)
    start_runner(Account, concurrency=2)
    for row, other in zip(rows, reversed(rows), strict=True):
        submit_events([submission(row, to=other.pk, amount=1)])
        eventually(lambda row=row: row.pk in tried)  # each on a thread, in a transaction

    eventually(lambda: Event.objects.filter(state="delivered").count() == 2)
    assert len(tried) > 2, "one was ended"
    assert_no_attempt_failed()
    assert [Account.objects.get(pk=row.pk).balance for row in rows] == [0, 0]
    assert "its events are delivered one by one until" in caplog.text


@pytest.mark.postgresql
@pytest.mark.mysql
def test_many_transfers_between_few_rows(
    act: Act, start_runner: Start, eventually: Eventually
) -> None:
    act(transfer)
    rows, chosen = Account.objects.bulk_create(Account() for _ in range(10)), random.Random(7)
    transfers = []
    for amount in range(1, 101):
        row, other = chosen.sample(rows, 2)
        transfers.append(submission(row, to=other.pk, amount=amount))
        row.balance -= amount
        other.balance += amount
    submit_events(transfers)

    for _ in range(2):
        start_runner(Account, concurrency=2)

    eventually(lambda: not Event.objects.filter(state="pending").exists(), 60)
    assert_no_attempt_failed()
    assert Account.objects.aggregate(sum=Sum("balance")) == {"sum": 0}
    for row in rows:
        assert Account.objects.get(pk=row.pk).balance == row.balance


@pytest.mark.once
def test_each_has_a_transaction_of_its_own_for_a_while(act: Act) -> None:
    told: list[str] = []

    def tell(row: Account, event: EventInfo) -> None:
        told.append("tried")
        transaction.on_commit(lambda: told.append("committed"))

    act(tell)
    rows = Account.objects.bulk_create(Account() for _ in range(2))
    submit_events([submission(row) for row in rows for _ in range(2)])
    crossings.crossed("default", Account)

    one_pass(Account, concurrency=1)

    assert told == ["tried", "committed"] * 4
    assert_no_attempt_failed()


@pytest.mark.once
def test_one_that_others_have_ended_meanwhile_is_answered_once(act: Act) -> None:
    act(lambda row, event: None)
    rows = Account.objects.bulk_create(Account() for _ in range(2))
    other, cancelled = submit_events([submission(row) for row in rows])
    events = claim(events_of(Account))
    cancel_event(cancelled)
    crossings.crossed("default", Account)

    with CaptureQueriesContext(connection) as sent:
        answers = deliver(store_for("default"), Account, events, "tests", around_events("tests"))

    assert not answers[cancelled].given_back
    assert answers[other].target == "delivered"
    assert len(sent) < 60, "each event has its turn once"
