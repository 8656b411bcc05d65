"""What the events of a row wait for, as the row explains it: one test for each sort of waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from django_fsmworker.events import cancel_event, retry_event, submit_event
from django_fsmworker.exceptions import TryAgainLater
from django_fsmworker.models import Event, Reason
from django_fsmworker.models.event import events_of
from django_fsmworker.testing import run_until_idle, travel
from tests.app.models import Account, Loose
from tests.app.models.accounts import ACTIONS
from tests.database.rows import FUTURE, claim, put

pytestmark = pytest.mark.django_db


@pytest.fixture
def row() -> Account:
    return Account.objects.create()


@pytest.fixture
def action(
    monkeypatch: pytest.MonkeyPatch, patient_events: None
) -> Callable[[BaseException], None]:
    """``action(error)``: what the event "call" raises."""

    def fail_with(error: BaseException) -> None:
        def call(row: Any, event: Any) -> None:
            raise error

        monkeypatch.setitem(ACTIONS, "it", call)

    return fail_with


def call(row: Any, **options: Any) -> int:
    return submit_event(row, "call", {"mode": "it"}, **options)


def run() -> None:
    run_until_idle(Account, Loose, raise_failures=False)


def reason(row: Any, code: str) -> Reason:
    """The only reason of that code; it keeps nobody from claiming the row."""
    (found,) = [each for each in row.state_explain().reasons if each.code == code]
    assert not found.blocks
    return found  # type: ignore[no-any-return]


def codes(row: Any) -> list[str]:
    return [code for code in row.state_explain().codes if code.startswith("event_")]


def test_one_that_fires_later(row: Account) -> None:
    key = submit_event(row, "nothing", delay=60)

    found = reason(row, "event_later")

    assert found.sentence.startswith(f"The event nothing ({key}) fires at ")
    assert "(in " in found.sentence
    assert found.evidence["events"] == [key]


def test_those_that_wait_for_a_failing_one(row: Account, action: Any) -> None:
    action(ValueError("broken\nin two"))
    first = call(row)
    others = [submit_event(row, "book", {"number": number}) for number in (1, 2)]
    run()

    failing, behind = reason(row, "event_failing"), reason(row, "event_behind")

    assert failing.sentence.startswith(
        f"The event call ({first}) has failed once of 5: ValueError: broken; it is tried again at "
    )
    assert failing.remedy == f"'manage.py stator events retry {first}' tries it now."
    assert behind.sentence == (
        f"The event book ({others[0]}) waits for the event call ({first}), which comes first. "
        f"So does 1 more."
    )
    assert behind.evidence["events"] == others
    assert behind.evidence["behind"] == first
    assert codes(row) == ["event_failing", "event_behind"]


def test_none_waits_where_there_is_no_order(action: Any, monkeypatch: Any) -> None:
    action(ValueError("broken"))
    row = Loose.objects.create(name="a/b")
    call(row)
    run()
    call(row)

    assert codes(row) == ["event_failing", "event_due"]


def test_one_that_the_state_does_not_take(row: Account) -> None:
    key = row.state_submit("melt", expires_in=1000)
    run()

    found = reason(row, "event_not_taken")

    assert found.sentence.startswith(
        f"The event melt ({key}) waits: it is not taken in the state open, and is tried when the "
        f"row moves, or at "
    )
    assert "; it is discarded at " in found.sentence
    row.state_submit("nothing")
    assert codes(row) == ["event_not_taken", "event_due"]


def test_one_whose_action_asked_for_another_try(row: Account, action: Any) -> None:
    action(TryAgainLater(1000))
    key = call(row)
    row.state_submit("nothing")
    run()

    assert reason(row, "event_asked_later").evidence["events"] == [key]
    assert codes(row) == ["event_asked_later", "event_behind"]


def test_one_that_waits_for_a_check_to_end(row: Account) -> None:
    put(row, state="checking", state_lease=FUTURE, state_claim=2, state_next=FUTURE)
    key = row.state_submit("settle")

    assert reason(row, "event_held").sentence == (
        f"The event settle ({key}) waits for the check that runs on the row to end."
    )


def test_one_that_is_due(row: Account) -> None:
    key = row.state_submit("nothing")

    found = reason(row, "event_due")
    assert found.sentence.startswith(f"The event nothing ({key}) is due since ")
    assert found.remedy == "See whether a runner that serves tests.Account is alive."


def test_one_in_the_hands_of_a_runner(row: Account) -> None:
    row.state_submit("nothing")
    claim(events_of(Account))

    assert codes(row) == ["event_delivering"]


def test_one_that_is_parked(row: Account) -> None:
    key = row.state_submit("nothing")
    Event.objects.get(pk=key).state_park("not yet")

    assert reason(row, "event_failing").sentence == f"The event nothing ({key}) is parked."


class TestTheEventItself:
    def test_says_what_it_waits_for(self, row: Account) -> None:
        row.state_submit("melt")
        later = submit_event(row, "nothing", delay=60)
        run()

        assert codes(Event.objects.get(trigger="melt")) == ["event_not_taken"]
        assert codes(Event.objects.get(pk=later)) == ["event_later"]

    def test_or_that_its_row_is_gone(self, row: Account) -> None:
        key = row.state_submit("nothing")
        name = f"tests.Account {row.pk}"
        row.delete()

        found = reason(Event.objects.get(pk=key), "event_row_gone")
        assert found.sentence == f"There is no {name}: it is discarded when its turn comes."

    def test_nothing_after_its_end(self, row: Account) -> None:
        key = row.state_submit("nothing")
        cancel_event(key, reason="a mistake")

        assert codes(Event.objects.get(pk=key)) == []
        assert codes(row) == []
        assert Event.objects.get(pk=key).reason == "a mistake"


class TestTryingAgain:
    @pytest.mark.parametrize("end", ["failed", "discarded", "cancelled"])
    def test_an_event_that_came_to_another_end_is_delivered(self, row: Account, end: str) -> None:
        key = row.state_submit("nothing")
        put(Event.objects.get(pk=key), state=end, state_next=None, reason="because")

        assert retry_event(key, by="ann") is True
        run()

        event = Event.objects.get(pk=key)
        assert (event.state, event.reason) == ("delivered", "")

    def test_nothing_is_done_twice(self, row: Account) -> None:
        key = submit_event(row, "book", {"number": 1})
        run()

        assert retry_event(key) is False
        assert retry_event(key + 1) is False
        run()
        assert row.entries.count() == 1

    def test_one_that_is_made_due_before_it_fires_waits_until_then(self, row: Account) -> None:
        key = submit_event(row, "book", {"number": 1}, delay=60)
        event = Event.objects.get(pk=key)
        event.state_retry()  # as for any other row
        run()

        event.refresh_from_db()
        assert (event.state, event.state_next) == ("pending", event.fires_at) or (
            event.state_next is not None and event.state_next >= event.fires_at
        )
        with travel(seconds=62):
            run()
        assert row.entries.count() == 1
