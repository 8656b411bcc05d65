"""Pauses by hand, by a check, by a breaker."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_fsmworker import clock, exceptions
from django_fsmworker.models import Event, Pause
from django_fsmworker.models.hints import PAUSED, Hint
from django_fsmworker.pauses import pause, paused, resume
from django_fsmworker.runner.limiting import pauses as known_pauses
from django_fsmworker.store.hints import hint_transport_for
from tests.app.models import Account, Delivery, Endpoint, Noop, Parcel, parcels
from tests.runner.embedded import Embedded, one_pass
from tests.runner.lone_claimer import LoneClaimer
from tests.runner.rows import due_in, failure, fresh

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Embedded]
Travel = Callable[[float], None]


@pytest.fixture
def sending(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return lambda check: monkeypatch.setitem(parcels.SENDING, "test", check)


def parcel(state: str = "plain", **fields: Any) -> Parcel:
    return Parcel.objects.create(state=state, **fields)


class TestByHand:
    def test_a_model_rests(self) -> None:
        one, other = parcel(), Noop.objects.create()
        pause(Parcel, by="ada", reason="the carrier moves house")

        one_pass(Parcel, Noop)

        assert (fresh(one).state, fresh(other).state) == ("plain", "done")
        (record,) = paused()
        assert (record.model, record.by, record.reason) == (
            "tests.Parcel",
            "ada",
            "the carrier moves house",
        )

    def test_a_state_rests(self) -> None:
        one, other = parcel("plain"), parcel("limited")
        pause(Parcel, "plain")

        one_pass(Parcel)

        assert (fresh(one).state, fresh(other).state) == ("plain", "sent")

    def test_a_key_rests(self) -> None:
        one, other, without = [parcel("keyed", carrier=each) for each in (1, 2, None)]
        pause(Parcel, "keyed", key=1)

        one_pass(Parcel)

        assert [fresh(row).state for row in (one, other, without)] == ["keyed", "sent", "sent"]

    def test_everything_rests(self) -> None:
        one, other = parcel(), Noop.objects.create()
        pause()

        one_pass(Parcel, Noop)

        assert (fresh(one).state, fresh(other).state) == ("plain", "new")

    def test_a_state_that_is_swept_rests(self) -> None:
        endpoint = Endpoint.objects.create(removed=True)
        row = Delivery.objects.create(state="held", endpoint=endpoint)
        pause(Delivery, "held")

        one_pass(Delivery)
        assert fresh(row).state == "held"
        resume(Delivery)
        one_pass(Delivery)
        assert fresh(row).state == "gone"

    def test_rows_run_when_it_is_lifted(self, start_runner: Start, eventually: Any) -> None:
        pause(Parcel)
        row = parcel()
        runner = start_runner(Parcel)
        eventually(lambda: runner.runner.parts.limiter.pauses)

        assert resume(Parcel, by="bob") == 1

        eventually(lambda: fresh(row).state == "sent")
        assert Pause.objects.get().lifted_by == "bob"

    def test_it_is_obeyed_within_two_seconds_also_without_hints(
        self, start_runner: Start, eventually: Any
    ) -> None:
        assert known_pauses.ASK_EVERY < 2  # no claim is based on what was known before that
        runner = start_runner(Parcel, hints=False)
        row = parcel()
        eventually(lambda: fresh(row).state == "sent")

        pause(Parcel)
        found: list[Parcel] = []

        def known() -> bool:
            found.append(parcel())  # rows come and go all the time
            return bool(runner.runner.parts.limiter.pauses)

        eventually(known, 30, every=0.05)
        late = parcel()
        resume_at = time.monotonic() + 0.5
        eventually(lambda: time.monotonic() > resume_at)
        assert fresh(late).state == "plain"
        resume(Parcel)
        eventually(lambda: {fresh(row).state for row in [*found, late]} == {"sent"})

    def test_rows_run_when_it_is_over(
        self, start_runner: Start, eventually: Any, travel: Travel
    ) -> None:
        pause(Parcel, until=timedelta(hours=1))
        row = parcel()
        runner = start_runner(Parcel)
        eventually(lambda: runner.runner.parts.limiter.pauses)

        travel(3601)

        eventually(lambda: fresh(row).state == "sent")

    def test_what_waits_for_a_thread_is_handed_back(
        self, start_runner: Start, eventually: Any, sending: Callable[..., None]
    ) -> None:
        begun: list[int] = []
        started: list[Embedded] = []

        def check(row: Parcel) -> str:
            begun.append(row.pk)
            pause(Parcel)
            eventually(lambda: started and started[0].runner.parts.limiter.pauses)
            return "sent"

        sending(check)
        rows = [parcel(mode="test") for _ in range(4)]
        started.append(start_runner(Parcel, concurrency=1))
        eventually(lambda: begun)
        other = parcel()

        eventually(lambda: Parcel.objects.filter(state_claim=None, state="plain").count() == 4)

        assert len(begun) == 1
        assert fresh(other).state == "plain"
        eventually(lambda: sum(fresh(row).state == "sent" for row in rows) == 1)

    def test_what_is_narrower_is_lifted_along_and_what_is_wider_stays(self) -> None:
        pause()
        pause(Parcel)
        pause(Parcel, "keyed")
        pause(Parcel, "keyed", key=1)

        assert resume(Parcel, "keyed") == 2
        assert [str(each) for each in paused()] == ["Everything", "tests.Parcel"]
        assert resume() == 2
        assert paused() == []

    def test_a_second_one_takes_the_place_of_the_first(self) -> None:
        pause(Parcel)
        (record,) = pause(Parcel, until=60, reason="shorter")

        assert Pause.objects.count() == 1
        assert record.until is not None
        assert 50 < (record.until - clock.now()).total_seconds() <= 61

    @pytest.mark.parametrize("key", ["1", 1.0])
    def test_a_key_is_what_rows_have_in_the_column(self, key: Any) -> None:
        (record,) = pause(Parcel, "keyed", key=key)

        assert (record.key, resume(Parcel, "keyed", key=1)) == ("1", 1)

    @pytest.mark.parametrize("until", [0, timedelta(0), clock.now() - timedelta(seconds=1)])
    def test_one_that_would_be_over_at_once_is_refused(self, until: Any) -> None:
        with pytest.raises(ValueError, match="^until=.* is (not above zero|over); give "):
            pause(Parcel, until=until)

    def test_a_key_that_the_column_does_not_take_is_refused(self) -> None:
        with pytest.raises(ValueError, match="^key='dhl': “dhl” value must be an integer"):
            pause(Parcel, key="dhl")

    def test_keys_need_a_state_with_keys(self) -> None:
        with pytest.raises(ValueError, match="The state plain of tests.Parcel has no keys"):
            pause(Parcel, "plain", key=1)
        with pytest.raises(ValueError, match="A state or a key belongs to a model"):
            pause(key=1)


class TestOfEvents:
    """They wait where the whole model is paused that they are for."""

    @pytest.mark.parametrize("what", [Account, Event, None])
    def test_they_rest_with_their_model_and_go_on(self, what: Any) -> None:
        Account.objects.create().state_submit("nothing")
        pause(what, reason="the bank moves house")

        one_pass(Account)
        event = Event.objects.get()
        assert event.state == "pending"
        assert event.state_explain().reasons[0].code == "paused"
        resume(what)
        one_pass(Account)
        assert fresh(event).state == "delivered"

    def test_they_are_delivered_once_it_is_lifted(
        self, start_runner: Start, eventually: Any
    ) -> None:
        pause(Account)
        Account.objects.create().state_submit("nothing")
        runner = start_runner(Account)
        eventually(lambda: runner.runner.parts.limiter.pauses)
        assert Event.objects.get().state == "pending"

        resume(Account)

        eventually(lambda: Event.objects.get().state == "delivered")

    def test_they_go_on_beside_a_state_that_rests(self) -> None:
        Account.objects.create().state_submit("nothing")
        pause(Account, "open")
        event = Event.objects.get()
        assert "paused" not in event.state_explain().codes

        one_pass(Account)

        assert fresh(event).state == "delivered"

    def test_they_go_on_beside_another_model_that_rests(self) -> None:
        Account.objects.create().state_submit("nothing")
        pause(Noop)

        one_pass(Account, Noop)

        assert Event.objects.get().state == "delivered"


class TestByACheck:
    def test_its_state_is_paused_and_the_row_tried_again_then(
        self, sending: Callable[..., None]
    ) -> None:
        def check(row: Parcel) -> str:
            raise exceptions.Pause(60, reason="429")

        sending(check)
        first, second = parcel(mode="test", state_failures=3), parcel(mode="test")

        one_pass(Parcel, concurrency=1)

        assert 50 < due_in(first) <= 60
        assert fresh(first).state_failures == 3
        assert failure(first) is None
        assert fresh(second).state_claim is None
        (record,) = paused()
        assert (record.kind, record.state, record.key, record.reason) == (
            "check",
            "plain",
            "",
            "429",
        )

    def test_its_key_is_paused_and_others_go_on(self, sending: Callable[..., None]) -> None:
        def check(row: Parcel) -> str:
            if row.carrier == 1:
                raise exceptions.Pause(clock.now() + timedelta(minutes=5), key=row.carrier)
            return "sent"

        sending(check)
        rows = [parcel("keyed", mode="test", carrier=carrier) for carrier in (1, 1, 1, 2, 2)]

        one_pass(Parcel, concurrency=1)

        assert [fresh(row).state for row in rows] == ["keyed"] * 3 + ["sent"] * 2
        (record,) = paused()
        assert (record.state, record.key) == ("keyed", "1")

    @pytest.mark.postgresql
    def test_other_processes_are_told_at_once(
        self, sending: Callable[..., None], eventually: Any
    ) -> None:
        def check(row: Parcel) -> str:
            raise exceptions.Pause(60)

        sending(check)
        parcel(mode="test")
        transport = hint_transport_for("default")
        assert transport is not None

        with closing(transport.listen()) as listener:
            one_pass(Parcel)
            eventually(lambda: Hint("tests.Parcel", PAUSED) in listener.wait(0.1))

    def test_a_key_where_there_are_none_is_a_failure(self, sending: Callable[..., None]) -> None:
        def check(row: Parcel) -> str:
            raise exceptions.Pause(60, key=1)

        sending(check)
        row = parcel(mode="test")

        one_pass(Parcel)

        record = failure(row)
        assert record is not None
        assert "plain has no keys" in record.message
        assert paused() == []

    def test_a_key_that_no_row_can_have_is_a_failure(self, sending: Callable[..., None]) -> None:
        def check(row: Parcel) -> str:
            raise exceptions.Pause(60, key="dhl")

        sending(check)
        row = parcel("keyed", mode="test")

        one_pass(Parcel)

        record = failure(row)
        assert record is not None
        assert "raised Pause(key='dhl'): “dhl” value must be an integer." in record.message
        assert paused() == []

    @pytest.mark.parametrize("until", ["120", None, True])
    def test_what_is_no_time_is_refused(self, until: Any) -> None:
        with pytest.raises(TypeError, match="Pause takes a number of seconds"):
            exceptions.Pause(until)


class TestBreaker:
    def test_a_state_whose_checks_fail_is_paused_and_then_tried_with_one_row(
        self, start_runner: Start, eventually: Any, travel: Travel
    ) -> None:
        for _ in range(4):
            parcel("broken", mode="fail")
        start_runner(Parcel)

        eventually(lambda: paused())
        (record,) = paused()
        assert (record.kind, record.state) == ("breaker", "broken")
        assert record.reason.startswith("4 of 4 attempts failed within 60 s")
        Parcel.objects.all().delete()
        rows = [parcel("broken", mode="fail") for _ in range(3)]

        travel(31)
        eventually(lambda: sum(fresh(row).state_failures for row in rows) == 1)
        eventually(lambda: Pause.objects.filter(until__gt=clock.now()).exists())
        assert sum(fresh(row).state_failures for row in rows) == 1

        Parcel.objects.update(mode="send")
        travel(62)
        eventually(lambda: not Parcel.objects.exclude(state="sent").exists())
        assert paused() == []


class Telling:
    """Hints that are known to arrive, or not to."""

    def __init__(self, *, tell_of_orders: bool) -> None:
        self.tell_of_orders = tell_of_orders


class TestTheQuestion:
    """What is paused is asked with claims; here whatever is known is too old."""

    @pytest.fixture
    def lone_claimer(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LoneClaimer]:
        monkeypatch.setattr(known_pauses, "ASK_EVERY", 0.0)
        monkeypatch.setattr(known_pauses, "AFTER_HINT", 0.0)

        def make(*, hinted: bool) -> LoneClaimer:
            alone = LoneClaimer(Noop, "done", 5, poll_interval=0.001)
            alone.duty.hinted = Telling(tell_of_orders=hinted)
            alone.round()  # the first claim of all is always asked for
            Noop.objects.create()
            alone.claimer.hinted(Noop)
            return alone

        return make

    @pytest.mark.parametrize(
        ("hinted", "first"), [(False, Pause), (True, Noop)], ids=["unhinted", "hinted"]
    )
    def test_a_claim_waits_for_it_unless_hints_tell_of_pauses(
        self, lone_claimer: Callable[..., LoneClaimer], hinted: bool, first: Any
    ) -> None:
        alone = lone_claimer(hinted=hinted)

        with CaptureQueriesContext(connection) as queries:
            assert alone.claimer.claim()

        statements = [each["sql"] for each in queries]
        named = [each for each in statements if _names(each, Pause) or _names(each, Noop)]
        assert _names(named[0], first)
        assert _names(named[-1], Pause)  # what has not begun can be handed back

    def test_a_claim_waits_for_it_after_a_hint(
        self, lone_claimer: Callable[..., LoneClaimer]
    ) -> None:
        alone = lone_claimer(hinted=True)
        pause(Noop)

        alone.claimer.look_at_pauses()

        assert not alone.claimer.claim()

    def test_a_claim_waits_for_it_while_something_is_paused(
        self, lone_claimer: Callable[..., LoneClaimer]
    ) -> None:
        pause(Noop, "done")
        alone = lone_claimer(hinted=True)
        pause(Noop, "new")

        assert not alone.claimer.claim()


def _names(statement: str, model: Any) -> bool:
    return model._meta.db_table in statement
