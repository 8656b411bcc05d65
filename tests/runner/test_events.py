"""Runners deliver the durable events of the models that they run."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from django_fsmworker.deadline import DEADLINE
from django_fsmworker.events import Submission, submit_event, submit_events
from django_fsmworker.exceptions import ConfigurationError, TryAgainLater
from django_fsmworker.management.labels import chosen_models
from django_fsmworker.models import Event, FailureRecord, StatorLog
from django_fsmworker.models.event import events_of
from django_fsmworker.runner import StatorRunner, preflight
from django_fsmworker.store import stores_for
from django_fsmworker.store.failures import count_deaths
from tests.app.models import Account, Loose, Noop, Purchase
from tests.app.models.accounts import ACTIONS, CHECKS
from tests.database.rows import claim
from tests.runner.embedded import Embedded, one_pass
from tests.runner.rows import fresh, lapse, path

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]

pytestmark = pytest.mark.django_db(transaction=True)


def the_event(**conditions: Any) -> Event:
    return Event.objects.get(**conditions)


def ended(state: str = "delivered") -> int:
    return Event.objects.filter(state=state).count()


def overrun() -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        time.sleep(0.005)


class HeldCheck:
    """A check that lasts until it is released, or ended from outside."""

    def __init__(self) -> None:
        self.begun, self.released, self.ended = (threading.Event() for _ in range(3))

    def __call__(self, row: Account) -> str:
        self.begun.set()
        try:
            while not self.released.is_set():
                time.sleep(0.005)
        finally:
            self.ended.set()
        return "open"


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldCheck]:
    check = HeldCheck()
    monkeypatch.setitem(CHECKS, "held", check)
    yield check
    check.released.set()


class TestWhichAreDelivered:
    def test_those_of_the_runner_s_models(self) -> None:
        account, purchase = Account.objects.create(), Purchase.objects.create(state="held")
        account.state_submit("nothing")
        purchase.state_submit("remark")

        runner = one_pass(Account)

        assert the_event(trigger="nothing").state == "delivered"
        assert the_event(trigger="remark").state == "pending"
        assert runner.counters.total("moved") == 1

    def test_of_all_models_by_default(self) -> None:
        models = StatorRunner().stores

        assert {events_of(Account), events_of(Purchase), events_of(Loose)} <= set(models)
        assert Event not in models
        assert events_of(Noop) not in models  # its graph declares none

    def test_those_of_an_excluded_model_are_left_out(self) -> None:
        chosen = preflight.models_to_run(chosen_models([], ["tests.Account"], None, to_run=True))

        assert events_of(Purchase) in chosen
        assert events_of(Account) not in chosen

    def test_events_are_no_model_to_name(self) -> None:
        with pytest.raises(CommandError, match="is not a model with a state graph"):
            chosen_models(["django_fsmworker.Event"], [], None, to_run=True)
        with pytest.raises(ConfigurationError, match="nothing to run"):
            StatorRunner([Event])

    @pytest.mark.django_db(transaction=True, databases=["default", "other"])
    def test_they_are_where_their_rows_are(self) -> None:
        row = Account(state="open")
        row.save(using="other")
        key = submit_event(row, "nothing", using="other")
        submit_event((Account, row.pk), "nothing", using="other")

        assert not Event.objects.exists()
        assert stores_for([events_of(Account)], "other")[events_of(Account)].alias == "other"
        one_pass(Account, database="other")
        stored: QuerySet[Event] = QuerySet(Event, using="other")
        assert stored.get(pk=key).state == "delivered"
        assert stored.filter(state="delivered").count() == 2

    def test_summaries_name_the_model(self) -> None:
        Account.objects.create().state_submit("nothing")
        one_pass(Account)

        assert StatorLog.objects.get(moved=1).model == "django_fsmworker.Event[tests.Account]"


class TestWhen:
    @pytest.mark.postgresql
    def test_an_idle_runner_hears_of_them(
        self, start_runner: Start, eventually: Eventually
    ) -> None:
        runner = start_runner(Account, poll_interval=60)
        eventually(lambda: runner.runner.hints.active)
        row = Account.objects.create()
        with transaction.atomic():
            row.state_submit("nothing")

        eventually(lambda: ended() == 1)

    @pytest.mark.postgresql
    def test_and_of_those_that_fire_later(
        self, start_runner: Start, eventually: Eventually
    ) -> None:
        runner = start_runner(Account, poll_interval=60)
        eventually(lambda: runner.runner.hints.active)
        Account.objects.create().state_submit("nothing", delay=0.3)

        event = eventually(lambda: Event.objects.filter(state="delivered").first())
        assert event.state_changed >= event.fires_at

    def test_a_check_that_runs_makes_them_wait_at_no_cost(
        self, start_runner: Start, eventually: Eventually, held: HeldCheck
    ) -> None:
        row = Account.objects.create(state="checking", mode="held")
        runner = start_runner(Account)
        assert held.begun.wait(30)
        submit_events(
            [Submission(row, "settle"), Submission(row, "book", {"number": 1}, max_attempts=1)]
        )
        waiting = Event.objects.filter(state_claim=None, state="pending", state_failures=0)
        eventually(lambda: runner.total("stayed") >= 1 and waiting.count() == 2)
        # Looked at by themselves they would wait for five seconds, and now for an hour.
        waiting.update(state_next=timezone.now() + timedelta(hours=1))
        held.released.set()

        eventually(lambda: ended() == 1)
        assert the_event(trigger="book").state == "delivered"
        assert the_event(trigger="settle").state == "pending"  # not taken in the state open
        assert path(row) == ["checking", "open"]

    def test_unless_they_interrupt_it(
        self, start_runner: Start, eventually: Eventually, held: HeldCheck
    ) -> None:
        row = Account.objects.create(state="checking", mode="held")
        runner = start_runner(Account)
        assert held.begun.wait(30)
        row.state_submit("abort")

        eventually(lambda: fresh(row).state == "open")
        runner.look_for_revoked(Account)
        assert held.ended.wait(30)
        eventually(lambda: fresh(row).state_claim is None)
        assert path(row) == ["checking", "open"]

    @pytest.mark.postgresql
    @pytest.mark.mysql
    def test_a_row_that_somebody_has_locked_is_waited_for(
        self, start_runner: Start, eventually: Eventually, locked: Any
    ) -> None:
        row, other = Account.objects.create(), Account.objects.create()
        submit_events(Submission(each, "nothing", max_attempts=1) for each in (row, other))
        with locked(row):
            start_runner(Account)
            eventually(lambda: ended() == 1)
        eventually(lambda: ended() == 2)
        assert not Event.objects.exclude(state_failures=0).exists()

    @pytest.mark.postgresql
    @pytest.mark.mysql
    def test_an_event_that_somebody_has_locked_holds_up_no_move(
        self, locked: Any, start_thread: Any, eventually: Eventually
    ) -> None:
        """A transaction that cancels an event goes on; meanwhile its row moves."""
        rows = [Purchase.objects.create() for _ in range(2)]
        for row in rows:
            row.state_submit("remark")
        one_pass(Purchase)
        later = timezone.now() + timedelta(hours=1)
        Event.objects.update(state_next=later)
        taken, free = Event.objects.order_by("pk")

        with locked(taken):
            moved = start_thread(
                Purchase.state_transition_queryset, Purchase.objects.order_by("pk"), "held"
            )
            eventually(lambda: {fresh(row).state for row in rows} == {"held"})
            eventually(lambda: fresh(free).state_next < later)
            assert fresh(taken).state_next == later
        moved.result()


class TestTrouble:
    @pytest.fixture
    def action(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], None]:
        return lambda name, function: monkeypatch.setitem(ACTIONS, name, function)

    def test_an_action_that_overruns_costs_its_neighbours_nothing(
        self, start_runner: Start, eventually: Eventually, action: Any
    ) -> None:
        action("slow", lambda row, event: overrun())
        rows = Account.objects.bulk_create(Account() for _ in range(3))
        first, *others = [Submission(row, "book", {"number": 1}, max_attempts=1) for row in rows]
        submit_events([first, Submission(rows[1], "call", {"mode": "slow"}), *others])
        start_runner(Account, deadline=1)

        eventually(lambda: ended() == 2)
        slow = eventually(lambda: Event.objects.filter(state_failures__gte=1).first())
        assert slow.trigger == "call"
        assert slow.failure is not None
        assert slow.failure.error == "django_fsmworker.exceptions.ActionOverran"
        # The event behind it waits.
        assert the_event(trigger="book", row_hash=rows[1].pk).state == "pending"

    @pytest.mark.sqlite
    def test_one_that_waits_for_the_file_has_not_overrun(self, locked: Any) -> None:
        """The time for which another action keeps everybody from writing is not its own."""
        row = Account.objects.create()
        submit_event(row, "book", {"number": 1}, max_attempts=1)
        events = claim(events_of(Account))
        context = contextvars.copy_context()
        context.run(DEADLINE.set, 2)

        with locked(row):
            began = time.monotonic()
            (answer,) = context.run(type(events[0]).state_graph.check_pending, events)

        assert time.monotonic() - began < 20, "it does not wait until the file is free"
        assert isinstance(answer, TryAgainLater)
        assert answer.keep_failures

    def test_one_that_overruns_too_often_has_failed(
        self, start_runner: Start, eventually: Eventually, action: Any
    ) -> None:
        action("slow", lambda row, event: overrun())
        row = Account.objects.create()
        submit_event(row, "call", {"mode": "slow"}, max_attempts=1)
        submit_event(row, "book", {"number": 1})
        start_runner(Account, deadline=1)

        eventually(lambda: ended("failed") == 1 and ended("delivered") == 1)
        assert " did not end within " in the_event(state="failed").reason

    def test_one_that_kills_its_processes_says_so(self) -> None:
        row = Account.objects.create()
        key = submit_event(row, "book", {"number": 1})
        event = the_event(pk=key)
        lapse([event], times=6)
        count_deaths("default", Event, "pending", [key], "a worker")
        FailureRecord.objects.update(deaths=5)

        one_pass(Account)

        event = the_event(pk=key)
        assert (event.state, row.entries.count()) == ("failed", 0)
        assert event.failure is not None
        assert event.reason == f"{event.failure.error}: {event.failure.message}"
        assert "The process that ran this row ended 5 times" in event.reason

    def test_slow_actions_come_in_several_transactions(
        self, start_runner: Start, eventually: Eventually, action: Any, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr("django_fsmworker.events.delivery.BUDGET", 0.01)
        action("slow", lambda row, event: time.sleep(0.02))
        rows = Account.objects.bulk_create(Account() for _ in range(4))
        submit_events(Submission(row, "call", {"mode": "slow"}) for row in rows)

        runner = one_pass(Account)

        assert ended() == 4
        assert len(set(Event.objects.values_list("state_changed", flat=True))) == 4
        assert runner.counters.total("moved") == 4


class TestOrder:
    def test_none_overtakes_another_while_checks_move_their_rows(
        self, start_runner: Start, eventually: Eventually, monkeypatch: Any
    ) -> None:
        """What comes between the settling of a row and the waking of its events, too."""
        monkeypatch.setitem(CHECKS, "brief", lambda row: "open")
        rows = Account.objects.bulk_create(Account(mode="brief") for _ in range(4))
        start_runner(Account)
        for number in range(60):
            for row in rows:
                if number % 5 == 0:
                    row.state_submit("check")  # to a state that does not take what follows
                row.state_submit("book", {"number": number})

        waiting = Event.objects.filter(state="pending")
        eventually(lambda: not waiting.exists(), 60)
        for row in rows:
            booked = row.entries.order_by("pk").values_list("number", flat=True)
            assert list(booked) == list(range(60))
