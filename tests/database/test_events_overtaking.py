"""No event overtakes an earlier one of its row, whatever has happened to the row meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from django_fsmworker import clock
from django_fsmworker.events import submit_event
from django_fsmworker.events.endings import release
from django_fsmworker.graph import EventInfo
from django_fsmworker.models import Event
from django_fsmworker.models.event import events_of
from django_fsmworker.testing import run_until_idle, travel
from tests.app.models import Account
from tests.app.models.accounts import ACTIONS
from tests.database.rows import FUTURE, claim, fetch, put
from tests.runner.rows import fresh

pytestmark = pytest.mark.django_db


@pytest.fixture
def row() -> Account:
    return Account.objects.create()


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, patient_events: None) -> Callable[[], None]:
    """The event "call" fails until this is called."""
    broken = [True]

    def call(row: Any, event: EventInfo) -> None:
        if broken:
            raise RuntimeError("not yet")
        row.entries.create(number=0)

    monkeypatch.setitem(ACTIONS, "it", call)
    return broken.clear


def book(row: Account, number: int) -> None:
    submit_event(row, "book", {"number": number})


def run() -> None:
    run_until_idle(Account, raise_failures=False)


def later() -> None:
    """All that waits has its turn, also what waits for another to have its own."""
    with travel(seconds=0) as further:
        for _ in range(3):
            further(seconds=400)
            run()
            further(seconds=1)  # those behind one that has failed look at it again in a moment
            run()


def numbers(row: Account) -> list[int]:
    return list(row.entries.order_by("pk").values_list("number", flat=True))


def state_of(trigger: str) -> str:
    return Event.objects.get(trigger=trigger).state


class TestARowThatHasJustMoved:
    """Nobody has yet made the events due that it did not take before, and perhaps nobody will."""

    def test_what_it_takes_now_comes_first(self, row: Account) -> None:
        row.state_submit("melt")
        run()
        put(row, state="frozen", state_next=None)  # as between a settling and what follows it

        row.state_submit("thaw")
        run()

        assert (state_of("melt"), state_of("thaw")) == ("delivered", "pending")
        assert fresh(row).state == "open"

    def test_what_it_does_not_take_in_the_same_state_is_stepped_over(self, row: Account) -> None:
        row.state_submit("melt")
        run()
        before = Event.objects.get(trigger="melt").state_next

        book(row, 1)
        run()

        assert numbers(row) == [1]
        assert Event.objects.get(trigger="melt").state_next == before

    def test_behind_very_many_too(self, row: Account, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("django_fsmworker.events.reading.MOST_READ", 3)
        for _ in range(4):
            row.state_submit("melt")
        run()
        put(row, state="frozen", state_next=None)

        row.state_submit("thaw")
        run()

        ended = Event.objects.filter(state="delivered").values_list("trigger", flat=True)
        assert list(ended) == ["melt"]
        assert fresh(row).state == "open"


class TestMoreEventsThanAreReadAtOnce:
    @pytest.fixture(autouse=True)
    def few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("django_fsmworker.events.reading.MOST_READ", 3)

    def test_a_later_one_waits_with_those_that_wait_for_a_failing_one(
        self, row: Account, failing: Callable[[], None]
    ) -> None:
        submit_event(row, "call", {"mode": "it"})
        for number in range(1, 5):
            book(row, number)
        run()

        book(row, 5)
        run()

        assert numbers(row) == []
        assert not Event.objects.exclude(state="pending").exists()
        failing()
        later()
        assert numbers(row) == [0, 1, 2, 3, 4, 5]

    def test_so_it_does_if_the_failing_one_is_behind_many_that_are_not_taken(
        self, row: Account, failing: Callable[[], None]
    ) -> None:
        for _ in range(4):
            row.state_submit("melt")
        submit_event(row, "call", {"mode": "it"})
        run()

        book(row, 5)
        run()

        assert numbers(row) == []
        failing()
        later()
        assert numbers(row) == [0, 5]

    def test_it_is_not_claimed_again_and_again_meanwhile(
        self, row: Account, failing: Callable[[], None]
    ) -> None:
        submit_event(row, "call", {"mode": "it"})
        for number in range(1, 5):
            book(row, number)
        run()
        failed = Event.objects.get(trigger="call")

        book(row, 5)
        run()

        assert failed.state_next is not None
        last = Event.objects.latest("pk")
        assert last.state_claim is None
        assert last.state_next is not None
        assert last.state_next >= failed.state_next - timedelta(milliseconds=1)


def test_one_that_is_given_back_is_due_though_its_claim_was_renewed(row: Account) -> None:
    row.state_submit("nothing")
    (event,) = claim(events_of(Account))
    put(event, state_next=FUTURE)

    release("default", [event])

    assert fetch(event).state_claim is None
    assert fetch(event).state_next <= clock.now()
