"""Delivery: in order, once, in one transaction with what it does; what becomes of the rest."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from django_fsmworker import clock
from django_fsmworker.events import Submission, cancel_event, submit_event, submit_events
from django_fsmworker.exceptions import Retry, TryAgainLater
from django_fsmworker.graph import EventInfo
from django_fsmworker.models import Event, FailureRecord
from django_fsmworker.models.event import EventStates
from django_fsmworker.runner.inline import InlineEngine
from django_fsmworker.signals import check_failed, state_changed
from django_fsmworker.testing import run_until_idle, travel
from tests.app.models import Account, Entry, Loose, Purchase
from tests.app.models.accounts import ACTIONS
from tests.database.rows import put, timed
from tests.runner.heard import heard
from tests.runner.rows import fresh, path

pytestmark = pytest.mark.django_db

Action = Callable[[Any, EventInfo], object]


@pytest.fixture
def row() -> Account:
    return Account.objects.create()


@pytest.fixture
def action(monkeypatch: pytest.MonkeyPatch) -> Callable[[Action], None]:
    """``action(function)``: what the event "call" with the mode "it" does."""
    return lambda function: monkeypatch.setitem(ACTIONS, "it", function)


def ends() -> list[tuple[str, str]]:
    """What became of each event, in the order of submission."""
    return list(Event.objects.order_by("pk").values_list("trigger", "state"))


def numbers(row: Any) -> list[int]:
    return list(row.entries.order_by("pk").values_list("number", flat=True))


def the_event(**conditions: Any) -> Event:
    return Event.objects.get(**conditions)


def run(*models: Any) -> int:
    return run_until_idle(*(models or (Account,)), raise_failures=False)


def book(row: Any, *numbers: int, **options: Any) -> list[int]:
    return submit_events(Submission(row, "book", {"number": n}, **options) for n in numbers)


def call(row: Any, **options: Any) -> int:
    return submit_event(row, "call", {"mode": "it"}, **options)


class TestInOrder:
    def test_the_events_of_a_row_are_delivered_in_the_order_of_submission(
        self, row: Account
    ) -> None:
        book(row, *range(5))
        run()

        assert numbers(row) == [0, 1, 2, 3, 4]
        assert fresh(row).balance == 5
        assert {state for _, state in ends()} == {"delivered"}

    def test_or_of_the_time_they_fire_at(self, row: Account) -> None:
        book(row, 1, delay=30)
        book(row, 2, delay=20)
        book(row, 3, delay=40)
        assert run() == 0

        with travel(seconds=41):
            run()

        assert numbers(row) == [2, 1, 3]

    def test_events_that_have_not_fired_are_left(self, row: Account) -> None:
        book(row, 1)
        book(row, 2, delay=20)
        run()

        assert numbers(row) == [1]

    def test_a_row_may_move_several_times(self, row: Account) -> None:
        for trigger in ("freeze", "melt", "freeze", "melt"):
            row.state_submit(trigger)
        book(row, 7)
        run()

        assert path(row) == ["open", "frozen", "open", "frozen", "open"]
        assert numbers(row) == [7]

    def test_the_log_says_which_event_moved_it(self, row: Account) -> None:
        row.state_submit("freeze", by="importer")
        row.state_submit("melt")
        run()

        found = row.state_log.order_by("pk").values_list(
            "source", "target", "cause", "trigger", "by"
        )
        assert list(found) == [
            ("open", "frozen", "event", "freeze", "importer"),
            ("frozen", "open", "event", "melt", ""),
        ]

    def test_many_rows_at_once(self) -> None:
        rows = Account.objects.bulk_create(Account() for _ in range(7))
        for trigger in ("freeze", "melt", "nothing"):
            Account.objects.state_submit(trigger)
        for row in rows:
            book(row, row.pk, row.pk + 1)
        run()

        assert {tuple(path(row)) for row in rows} == {("open", "frozen", "open")}
        assert all(numbers(row) == [row.pk, row.pk + 1] for row in rows)

    def test_the_next_action_sees_what_the_last_has_written(
        self, row: Account, action: Callable[[Action], None]
    ) -> None:
        seen: list[Any] = []
        action(lambda row, event: seen.append((row.state, row.balance, len(row.state_history))))
        row.state_submit("freeze")
        row.state_submit("melt")
        book(row, 1)
        call(row)
        run()

        assert seen == [("open", 1, 3)]

    def test_one_that_no_row_has_a_hash_of_its_own_for_is_not_mixed_up(self) -> None:
        one, other = Account.objects.create(), Account.objects.create()
        book(one, 1)
        Event.objects.update(row_hash=other.pk)
        book(other, 2)
        run()

        assert (numbers(one), numbers(other)) == ([1], [2])


class TestInOneTransaction:
    def test_an_action_gets_the_event(self, row: Account, action: Callable[[Action], None]) -> None:
        seen: list[EventInfo] = []
        action(lambda row, event: seen.append(event))
        key = call(row, by="importer")
        run()

        (event,) = seen
        assert (event.id, event.trigger, event.by) == (key, "call", "importer")
        assert event.context == {"mode": "it"}
        assert event.submitted == the_event().submitted

    def test_what_a_failing_action_wrote_is_taken_back(
        self, row: Account, action: Callable[[Action], None]
    ) -> None:
        def fail(row: Any, event: EventInfo) -> None:
            Entry.objects.create(account=row, number=1)
            transaction.on_commit(lambda: pytest.fail("the action was rolled back"))
            raise RuntimeError("no")

        action(fail)
        call(row)
        other = Account.objects.create()
        book(other, 2)
        run()

        assert numbers(row) == []
        assert numbers(other) == [2]
        assert ends() == [("call", "pending"), ("book", "delivered")]

    def test_an_action_that_asks_nothing_takes_no_savepoint(self, row: Account) -> None:
        submit_event(row, "nothing")
        sent: list[str] = []

        def note(execute: Any, sql: str, *others: Any) -> Any:
            sent.append(sql)
            return execute(sql, *others)

        with connection.execute_wrapper(note):
            run()

        savepoints = [sql for sql in sent if sql.startswith("SAVEPOINT")]
        # The test's transaction makes a savepoint of the engine's; no more than its own follow.
        assert len(savepoints) <= 2

    def test_a_database_error_that_an_action_swallows_is_its_failure(
        self, row: Account, action: Callable[[Action], None]
    ) -> None:
        def swallow(row: Any, event: EventInfo) -> None:
            with suppress(IntegrityError):
                Entry.objects.create(account=row, **{"number": None})

        action(swallow)
        call(row)
        run()

        assert the_event().state == "pending"
        assert "went on" in FailureRecord.objects.get().message

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize(
        "statement",
        [
            "COMMIT",
            "-- undo it\n rollback",
            pytest.param("ABORT", marks=pytest.mark.postgresql),
            pytest.param("CREATE TABLE made (id int)", marks=pytest.mark.mysql),
        ],
    )
    def test_an_action_that_ends_the_transaction_fails_and_harms_no_other(
        self, action: Callable[[Action], None], statement: str
    ) -> None:
        """What the others have done would stand, or be gone, without the end of their events."""

        def end(row: Any, event: EventInfo) -> None:
            Entry.objects.create(account=row, number=2)
            with connection.cursor() as cursor:
                cursor.execute(statement)

        action(end)
        rows = [Account.objects.create() for _ in range(3)]
        book(rows[0], 1)
        call(rows[1])
        book(rows[2], 3)
        run()

        assert [numbers(row) for row in rows] == [[1], [], [3]]
        assert [state for _, state in ends()] == ["delivered", "pending", "delivered"]
        assert "would have ended the transaction" in the_event(trigger="call").reason

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("end", [connection.commit, connection.rollback])
    def test_so_does_one_that_asks_django_to(
        self, action: Callable[[Action], None], end: Callable[[], None]
    ) -> None:
        action(lambda row, event: end())
        rows = [Account.objects.create() for _ in range(2)]
        book(rows[0], 1)
        call(rows[1])
        run()

        assert numbers(rows[0]) == [1]
        assert [state for _, state in ends()] == ["delivered", "pending"]

    @pytest.mark.parametrize(
        "act",
        [
            lambda row, event: Account.objects.filter(pk=row.pk).update(state="frozen"),
            lambda row, event: row.delete(),
        ],
        ids=["moves", "deletes"],
    )
    def test_an_action_that_moves_its_row_itself_fails(
        self, row: Account, action: Callable[[Action], None], act: Action
    ) -> None:
        action(act)
        submit_event(row, "close", {"mode": "it"})
        others = [Account.objects.create() for _ in range(2)]
        others[0].state_submit("freeze")
        others[1].state_submit("close")
        run()

        assert fresh(row).state == "open"
        assert [fresh(other).state for other in others] == ["frozen", "closed"]
        assert f"moved or deleted tests.Account {row.pk} " in FailureRecord.objects.get().message

    @pytest.mark.parametrize(
        "act",
        [
            lambda row, event: cancel_event(event.id),
            lambda row, event: Event.objects.filter(row=row.pk).delete(),
        ],
        ids=["cancels", "deletes"],
    )
    def test_so_does_one_that_ends_its_own_event(
        self, row: Account, action: Callable[[Action], None], act: Action
    ) -> None:
        """It was tried again and again, and what came with it was not delivered."""
        action(act)
        call(row, max_attempts=1)
        other = Account.objects.create()
        book(other, 1)
        run()

        event = the_event(trigger="call")
        assert event.state == "failed"
        assert event.reason.startswith("ValueError: The action of call ended its own event itself")
        assert numbers(other) == [1]

    def test_an_action_may_delete_its_row(
        self, row: Account, action: Callable[[Action], None]
    ) -> None:
        action(lambda row, event: row.delete())
        call(row)
        book(row, 1)
        run()

        assert ends() == [("call", "delivered"), ("book", "discarded")]

    def test_an_action_may_submit_further_events(
        self, row: Account, action: Callable[[Action], None]
    ) -> None:
        action(lambda row, event: book(row, 1))
        call(row)
        run()

        assert numbers(row) == [1]

    def test_async_actions(self, row: Account) -> None:
        purchase = Purchase.objects.create(state="approved", paid=1)
        purchase.state_submit("ship")
        run(Purchase)

        assert (fresh(purchase).state, fresh(purchase).note) == ("done", "shipped")


class TestActionsThatWriteOtherRows:
    """Rows whose events are delivered in the same transaction, and were read before."""

    @pytest.fixture
    def rows(self) -> list[Account]:
        return [Account.objects.create() for _ in range(3)]

    def test_what_they_wrote_is_not_overwritten(
        self, rows: list[Account], action: Callable[[Action], None]
    ) -> None:
        def pay(row: Any, event: EventInfo) -> None:
            row.balance -= 100
            Account.objects.exclude(pk=row.pk).update(balance=F("balance") + 50)

        action(pay)
        for row in rows:
            book(row, 1)
        call(rows[1])
        for row in rows:
            book(row, 2)
        run()

        assert [fresh(row).balance for row in rows] == [52, -98, 52]
        assert [numbers(row) for row in rows] == [[1, 2]] * 3

    def test_the_state_to_which_they_moved_it_counts(
        self, rows: list[Account], action: Callable[[Action], None]
    ) -> None:
        action(lambda row, event: rows[2].state_send("freeze"))
        submit_event(rows[2], "melt")
        call(rows[1])
        submit_event(rows[2], "melt")
        book(rows[2], 1)
        run()

        # The first "melt" was stepped over, and has not been overtaken by the second.
        waiting, taken = Event.objects.filter(trigger="melt").order_by("pk")
        assert (waiting.state, taken.state) == ("delivered", "pending")
        assert numbers(rows[2]) == [1]

    def test_one_that_they_deleted_takes_no_more(
        self, rows: list[Account], action: Callable[[Action], None]
    ) -> None:
        action(lambda row, event: Account.objects.get(pk=rows[2].pk).delete())
        call(rows[1])
        submit_event(rows[2], "freeze", max_attempts=1)
        run()

        event = the_event(trigger="freeze")
        assert (event.state, event.reason) == ("discarded", "Its row is gone.")

    def test_a_row_that_others_write_nothing_of_is_not_read_again(
        self, rows: list[Account], action: Callable[[Action], None]
    ) -> None:
        def pay(row: Any, event: EventInfo) -> None:
            row.balance += Account.objects.count()

        action(pay)
        for row in rows:
            call(row)
        with CaptureQueriesContext(connection) as sent:
            run()

        reads = [each["sql"] for each in sent if each["sql"].startswith("SELECT")]
        reads = [sql for sql in reads if "balance" in sql.partition("FROM")[0]]
        assert len(reads) <= 2  # of all rows, as they are locked and after their turn


class TestFailures:
    @pytest.fixture
    def failing(self, action: Callable[[Action], None], patient_events: None) -> None:
        def fail(row: Any, event: EventInfo) -> None:
            raise ValueError("broken")

        action(fail)

    def test_one_costs_an_attempt_and_is_on_record(self, row: Account, failing: None) -> None:
        key = call(row)
        with timed() as span:
            run()

        event = the_event()
        assert (event.state, event.state_failures, event.state_claim) == ("pending", 1, None)
        assert event.state_next is not None
        assert event.state_next - span.since >= timedelta(seconds=54)
        assert event.state_next - span.until <= timedelta(seconds=66)
        assert event.failure is not None
        assert (event.failure.error, event.failure.message) == ("ValueError", "broken")
        assert (event.failure.model, event.failure.row) == ("django_fsmworker.Event", str(key))

    def test_it_is_tried_again_in_a_second(self) -> None:
        assert 0.9 <= EventStates.pending.retry_delay(1) <= 1.1

    def test_its_reason_is_no_longer_the_one_for_which_it_waited(
        self, row: Account, action: Callable[[Action], None]
    ) -> None:
        def fail(row: Any, event: EventInfo) -> None:
            raise ValueError("broken\nwith a secret")

        action(fail)
        put(row, state="frozen")
        call(row)
        run()
        assert the_event().reason == "It is not taken in the state frozen."
        fresh(row).state_send("melt")
        run()

        assert the_event().reason == "ValueError: broken"

    @pytest.mark.parametrize("error", [ValueError, TryAgainLater])
    @pytest.mark.parametrize(("order", "attempts"), [("none", 5), ("row", 1)])
    def test_the_next_one_does_not_find_what_it_assigned(
        self,
        row: Account,
        action: Callable[[Action], None],
        monkeypatch: pytest.MonkeyPatch,
        order: str,
        attempts: int,
        error: type[Exception],
    ) -> None:
        def fail(row: Any, event: EventInfo) -> None:
            row.balance = 1000
            raise error

        action(fail)
        monkeypatch.setattr(Account.state_graph, "event_order", order)
        call(row, max_attempts=attempts)
        book(row, 1)
        with travel(seconds=0) as further:
            run()
            monkeypatch.setitem(ACTIONS, "it", lambda row, event: None)
            further(seconds=400)
            run()

        assert (numbers(row), fresh(row).balance) == ([1], 1)

    def test_the_row_s_later_events_wait_for_it(self, row: Account, failing: None) -> None:
        call(row)
        book(row, 1, 2)
        run()

        assert [state for _, state in ends()] == ["pending"] * 3
        assert numbers(row) == []

    def test_until_it_has_failed_for_good(self, row: Account, failing: None) -> None:
        call(row, max_attempts=3)
        book(row, 1, 2)
        other = Account.objects.create()
        book(other, 3)
        with travel(seconds=0) as further:
            for _ in range(4):
                run()
                further(seconds=400)
            run()

        event = the_event(trigger="call")
        assert (event.state, event.reason) == ("failed", "ValueError: broken")
        assert event.failure is not None
        assert (event.failure.count, event.failure.went_to) == (3, "failed")
        assert numbers(row) == [1, 2]
        assert numbers(other) == [3]

    def test_once_it_succeeds_the_record_is_resolved(
        self, row: Account, action: Callable[[Action], None]
    ) -> None:
        tries: list[int] = []

        def fail_once(row: Any, event: EventInfo) -> None:
            tries.append(1)
            if len(tries) == 1:
                raise ValueError

        action(fail_once)
        call(row)
        book(row, 1)
        with travel(seconds=0) as further:
            for _ in range(3):
                run()
                further(seconds=400)

        assert ends() == [("call", "delivered"), ("book", "delivered")]
        assert FailureRecord.objects.get().resolved is not None
        assert len(tries) == 2

    def test_one_that_is_not_taken_any_more_keeps_no_other_waiting(
        self, row: Account, failing: None
    ) -> None:
        """Among the others is the one that leads to the state in which it is taken again."""
        call(row)
        run()
        fresh(row).state_send("freeze")
        submit_event(row, "melt")
        with travel(seconds=0) as further:
            further(seconds=400)
            run()

            assert fresh(row).state == "open"
            assert the_event(trigger="melt").state == "delivered"
            # It is tried at once, and begins to count anew.
            event = the_event(trigger="call")
            assert (event.state_failures, event.reason) == (1, "ValueError: broken")
        assert FailureRecord.objects.get().count == 1

    def test_retry_says_when(self, row: Account, action: Callable[[Action], None]) -> None:
        def fail(row: Any, event: EventInfo) -> None:
            raise Retry(1000)

        action(fail)
        call(row)
        run()

        assert (the_event().state_next - clock.now()).total_seconds() > 900  # type: ignore[operator]
        assert the_event().state_failures == 1

    def test_try_again_later_costs_nothing(
        self, row: Account, action: Callable[[Action], None]
    ) -> None:
        def later(row: Any, event: EventInfo) -> None:
            raise TryAgainLater(1000)

        action(later)
        call(row)
        book(row, 1)
        run()

        for event in Event.objects.all():
            assert (event.state, event.state_failures) == ("pending", 0)
            assert (event.state_next - clock.now()).total_seconds() > 900  # type: ignore[operator]

    def test_without_order_nobody_waits(
        self, action: Callable[[Action], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(row: Any, event: EventInfo) -> None:
            raise ValueError

        action(fail)
        done: list[str] = []
        monkeypatch.setitem(ACTIONS, "good", lambda row, event: done.append(row.name))
        row = Loose.objects.create(name="a/b")
        call(row)
        submit_event(row, "call", {"mode": "good"})
        run(Loose)

        assert [state for _, state in ends()] == ["pending", "delivered"]
        assert done == ["a/b"]

    @pytest.mark.django_db(transaction=True)
    def test_the_signal_tells_of_it(self, row: Account, failing: None) -> None:
        with heard(check_failed, Event) as told:
            call(row)
            run()

        (one,) = told
        assert (one["source"], one["ending"], one["failures"]) == ("pending", "failed", 1)

    def test_the_kit_raises_what_an_action_raised(self, row: Account, failing: None) -> None:
        call(row)
        with pytest.raises(ValueError, match="broken"):
            run_until_idle(Account)


def save_as_frozen(row: Any) -> None:
    row.state = "frozen"
    row.save()


def save_as_held(row: Any) -> None:
    row.state = "held"
    row.save()


class TestNotTaken:
    """Events that the row does not take in its state."""

    def test_they_are_stepped_over_and_taken_when_the_row_has_moved(self, row: Account) -> None:
        row.state_submit("melt")
        book(row, 1)
        row.state_submit("freeze")
        run()

        assert path(row) == ["open", "frozen", "open"]
        assert numbers(row) == [1]

    @pytest.mark.parametrize(
        "move",
        [
            lambda row: row.state_transition("frozen"),
            lambda row: Account.state_transition_queryset(Account.objects.all(), "frozen"),
            lambda row: row.state_send("freeze"),
            save_as_frozen,
        ],
        ids=["forced", "queryset", "sent", "saved"],
    )
    def test_whoever_moves_the_row_makes_them_due(self, row: Account, move: Any) -> None:
        row.state_submit("melt")
        run()
        assert (the_event().state, the_event().state_failures) == ("pending", 0)

        row.refresh_from_db()
        move(row)
        run()

        assert fresh(row).state == "open"
        assert the_event().state == "delivered"

    @pytest.mark.sqlite
    @pytest.mark.postgresql
    def test_those_that_come_while_many_rows_are_moved_are_made_due(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The rows are written once more, with their keys."""
        purchase = Purchase.objects.create()
        purchase.state_submit("remark", {"text": "now"})
        run(Purchase)
        look, looks = InlineEngine.has_events, []

        def first_look_is_too_early(*args: Any) -> bool:
            looks.append(args)
            return len(looks) > 1 and look(*args)

        monkeypatch.setattr(InlineEngine, "has_events", first_look_is_too_early)
        assert Purchase.state_transition_queryset(Purchase.objects.all(), "held") == 1
        run(Purchase)

        assert (len(looks), fresh(purchase).note) == (2, "remark by None: now;")

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize(
        "move",
        [
            lambda row: row.state_transition("held"),
            lambda row: row.state_transition("held", force=False),
            lambda row: Purchase.state_transition_queryset(Purchase.objects.all(), "held"),
            lambda row: row.state_move("held"),
            lambda row: row.state_send("hold"),
            save_as_held,
            lambda row: save_as_held(Purchase.objects.defer("state").get(pk=row.pk)),
        ],
        ids=["forced", "declared", "queryset", "moved", "sent", "saved", "not loaded"],
    )
    def test_in_the_transaction_of_the_move(self, move: Any) -> None:
        """Who dies in between has not moved it."""
        row = Purchase.objects.create()
        row.state_submit("remark")
        run(Purchase)
        before, row = the_event().state_next, fresh(row)

        def die(execute: Any, sql: str, *others: Any) -> Any:
            if Event._meta.db_table in sql:
                raise ZeroDivisionError
            return execute(sql, *others)

        with pytest.raises(ZeroDivisionError), connection.execute_wrapper(die):
            move(row)

        assert (fresh(row).state, the_event().state_next) == ("open", before)

    def test_a_check_that_moves_the_row_does_so_too(self, row: Account) -> None:
        purchase = Purchase.objects.create(amount=-1)
        purchase.state_submit("remark", {"text": "now"})
        purchase.state_submit("approve")
        run(Purchase)

        assert fresh(purchase).note == "remark by None: now;"

    def test_otherwise_they_are_tried_now_and_then(self, row: Account) -> None:
        row.state_submit("rich")
        run()
        put(row, balance=100)
        assert run() == 0

        with travel(seconds=6):
            run()

        assert fresh(row).state == "closed"

    def test_they_wait_for_as_long_as_they_may(self, row: Account) -> None:
        row.state_submit("melt", expires_in=1000)
        with travel(seconds=0) as further:
            for _ in range(20):
                run()
                further(seconds=49)
            assert the_event().state == "pending"
            further(seconds=100)
            run()

        assert (the_event().state, the_event().reason) == ("discarded", "It has expired.")

    def test_discarded_at_once(self, row: Account) -> None:
        row.state_submit("drop")
        run()

        assert (the_event().state, the_event().reason) == (
            "discarded",
            "What it needs is not true of the row, which is in the state open.",
        )

    def test_failed_at_once(self, row: Account) -> None:
        put(row, state="frozen", state_next=None)
        row.state_submit("insist")
        run()

        assert (the_event().state, the_event().reason) == (
            "failed",
            "It is not taken in the state frozen.",
        )

    def test_more_of_them_than_are_read_at_once(
        self, row: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("django_fsmworker.events.reading.MOST_READ", 3)
        for _ in range(5):
            row.state_submit("melt")
        book(row, 1)
        row.state_submit("freeze")
        book(row, 2)
        run()

        assert numbers(row) == [1, 2]
        assert path(row) == ["open", "frozen", "open"]
        assert [trigger for trigger, state in ends() if state == "pending"] == ["melt"] * 4


class TestPermissions:
    @pytest.fixture
    def ann(self) -> User:
        ann = User.objects.create(username="ann")
        ann.user_permissions.add(Permission.objects.get(codename="thaw_account"))
        return User.objects.get(pk=ann.pk)

    @pytest.fixture(autouse=True)
    def frozen(self, row: Account) -> None:
        put(row, state="frozen", state_next=None)

    @pytest.mark.django_db(transaction=True)
    def test_who_has_it_at_delivery_may(self, row: Account, ann: User) -> None:
        with heard(state_changed, Account) as told:
            row.state_submit("thaw", by=ann)
            run()

        assert fresh(row).state == "open"
        assert (told[0]["by"], told[0]["trigger"], told[0]["cause"]) == (ann, "thaw", "event")

    def test_who_has_lost_it_may_not(self, row: Account, ann: User) -> None:
        row.state_submit("thaw", by=ann)
        ann.user_permissions.clear()
        run()

        assert fresh(row).state == "frozen"
        assert the_event().state == "pending"

    def test_nor_who_is_gone(self, row: Account, ann: User) -> None:
        row.state_submit("thaw", by=ann)
        ann.delete()
        run()

        assert fresh(row).state == "frozen"

    def test_nor_whom_another_model_of_users_had(self, row: Account, ann: User) -> None:
        """And the other events of the row are delivered."""
        row.state_submit("thaw", by=ann)
        Event.objects.update(by_pk="a7c3")
        row.state_submit("melt")
        run()

        assert fresh(row).state == "open"
        assert ends() == [("thaw", "pending"), ("melt", "delivered")]

    @pytest.mark.parametrize("by", [None, "importer"])
    def test_programs_may(self, row: Account, by: str | None) -> None:
        row.state_submit("thaw", by=by)
        run()

        assert fresh(row).state == "open"


class TestRowsThatAreGone:
    def test_their_events_are_discarded(self, row: Account) -> None:
        gone = row.pk
        book(row, 1)
        submit_event((Account, gone + 1), "nothing")
        other = Account.objects.create(pk=gone + 2)
        book(other, 2)
        row.delete()
        run()

        assert [state for _, state in ends()] == ["discarded", "discarded", "delivered"]
        assert the_event(row_hash=gone + 1).reason == "Its row is gone."


def test_one_that_is_cancelled_by_the_one_before_it_is_not_delivered(
    row: Account, action: Callable[[Action], None]
) -> None:
    action(lambda row, event: cancel_event(event.id + 1))  # type: ignore[operator]
    call(row)
    book(row, 1)
    run()

    assert ends() == [("call", "delivered"), ("book", "cancelled")]
    assert numbers(row) == []


def test_one_that_somebody_has_parked_keeps_the_others_waiting(row: Account) -> None:
    first, second = book(row, 1, 2)
    the_event(pk=first).state_park("not yet")
    run()
    assert numbers(row) == []

    the_event(pk=first).state_unpark()
    with travel(seconds=6):
        run()
    assert numbers(row) == [1, 2]


def test_events_are_deleted_a_week_after_their_end(row: Account) -> None:
    row.state_submit("nothing")
    run()
    assert Event.state_do_deletes() == 0

    with travel(timedelta(days=8)):
        assert Event.state_do_deletes() == 1


def test_a_model_s_events_are_its_own(row: Account) -> None:
    purchase = Purchase.objects.create(state="held")
    purchase.state_submit("remark")
    row.state_submit("nothing")

    assert run_until_idle(Account) == 1
    assert ends() == [("remark", "pending"), ("nothing", "delivered")]
    assert run_until_idle() == 1
