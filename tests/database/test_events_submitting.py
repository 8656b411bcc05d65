"""Events are written with the caller's transaction, once for each key, or refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.db import DatabaseError, connection, transaction
from django.db.models import Value
from django.http import QueryDict

from django_fsmworker.events import (
    Submission,
    acancel_event,
    asubmit_event,
    asubmit_events,
    cancel_event,
    submit_event,
    submit_events,
)
from django_fsmworker.exceptions import NotAllowed
from django_fsmworker.models import Event
from django_fsmworker.store import store_for
from django_fsmworker.testing import run_until_idle, travel
from tests.app.models import Account, CompositeKind, Loose, Noop
from tests.threads import DatabaseThread

pytestmark = pytest.mark.django_db


def the_event(**conditions: Any) -> Event:
    return Event.objects.get(**conditions)


@pytest.fixture
def row() -> Account:
    return Account.objects.create()


def user(*codenames: str) -> User:
    found = User.objects.create(username="ann")
    found.user_permissions.add(*Permission.objects.filter(codename__in=codenames))
    return User.objects.get(pk=found.pk)


class TestTheRecord:
    def test_it_says_what_was_submitted(self, row: Account) -> None:
        key = submit_event(row, "book", {"number": 7, "at": datetime(2020, 1, 1, tzinfo=UTC)})

        event = the_event(pk=key)
        assert (event.model, event.row, event.trigger) == ("tests.Account", str(row.pk), "book")
        assert event.context == {"number": 7, "at": "2020-01-01T00:00:00Z"}
        assert (event.state, event.by, event.max_attempts) == ("pending", "", 5)
        assert event.submitted == event.fires_at == event.state_next
        assert event.expires_at is None
        assert str(event) == f"book for tests.Account {row.pk}"

    def test_the_database_dates_it(self, row: Account) -> None:
        before = store_for("default").now()
        with travel(seconds=3600):
            submit_event(row, "nothing")

        assert timedelta(minutes=59) < the_event().submitted - before < timedelta(minutes=61)

    @pytest.mark.parametrize("delay", [60, timedelta(minutes=1)])
    def test_a_delay_counts_from_the_database_s_time(self, row: Account, delay: Any) -> None:
        submit_event(row, "nothing", delay=delay, expires_in=90)

        event = the_event()
        assert event.fires_at == event.state_next == event.submitted + timedelta(seconds=60)
        assert event.expires_at == event.submitted + timedelta(seconds=90)

    def test_it_may_fire_at_a_moment(self, row: Account) -> None:
        moment = datetime(2050, 1, 1, tzinfo=UTC)
        submit_event(row, "nothing", fires_at=moment)

        assert the_event().fires_at == the_event().state_next == moment

    @pytest.mark.parametrize(
        "target",
        [
            lambda row: row,
            lambda row: (Account, row.pk),
            lambda row: ("tests.Account", row.pk),
            lambda row: ("tests.account", str(row.pk)),
        ],
    )
    def test_a_target_is_a_row_or_its_model_and_key(self, row: Account, target: Any) -> None:
        submit_event(target(row), "nothing")

        assert (the_event().row, the_event().row_hash) == (str(row.pk), row.pk)

    def test_a_key_that_is_text_is_found_by_a_hash(self) -> None:
        submit_events([Submission((Loose, "A"), "call"), Submission((Loose, "a"), "call")])

        first, second = Event.objects.order_by("pk")
        assert (first.row, second.row) == ("A", "a")
        assert first.row_hash != second.row_hash

    def test_who_submitted_is_on_record(self, row: Account) -> None:
        ann = user()
        for by in ("importer", ann, AnonymousUser(), None):
            submit_event(row, "nothing", by=by)

        found = Event.objects.order_by("pk").values_list("by", "by_pk")
        assert list(found) == [
            ("importer", None),
            ("ann", str(ann.pk)),
            ("AnonymousUser", ""),
            ("", None),
        ]

    @pytest.mark.django_db(transaction=True)
    def test_it_is_there_if_and_only_if_the_transaction_is_committed(self, row: Account) -> None:
        with pytest.raises(RuntimeError), transaction.atomic():
            row.state_submit("nothing")
            submit_events([Submission(row, "nothing")])
            raise RuntimeError

        assert not Event.objects.exists()

    def test_one_insert_is_all_that_is_sent(
        self, row: Account, django_assert_num_queries: Any
    ) -> None:
        with django_assert_num_queries(1):
            submit_event(row, "nothing", {"a": 1})


class TestRefusals:
    """Nothing is written, and the error says what is wrong."""

    @pytest.fixture(autouse=True)
    def nothing_is_written(self) -> Any:
        yield
        assert not Event.objects.exists()

    def test_an_event_that_the_graph_does_not_declare(self, row: Account) -> None:
        with pytest.raises(NotAllowed) as refused:
            submit_event(row, "explode")

        assert refused.value.reason == "unknown_event"
        assert str(refused.value) == (
            "tests.Account takes no event 'explode'; those that AccountStates declares: abort, "
            "book, call, check, close, drop, freeze, insist, melt, nothing, rich, settle, thaw."
        )

    def test_a_user_who_may_send_it_in_no_state(self, row: Account) -> None:
        queryset = Account.objects.all()
        ways: list[Any] = [
            lambda by: submit_event(row, "thaw", by=by),
            lambda by: submit_event((Account, row.pk), "thaw", by=by),
            lambda by: submit_events([Submission(row, "thaw", by=by)]),
            lambda by: row.state_submit("thaw", by=by),
            lambda by: Account.objects.state_submit("thaw", by=by),
            lambda by: async_to_sync(asubmit_event)(row, "thaw", by=by),
            lambda by: async_to_sync(row.astate_submit)("thaw", by=by),
            lambda by: async_to_sync(queryset.astate_submit)("thaw", by=by),
        ]
        for way in ways:
            with pytest.raises(NotAllowed) as refused:
                way(User.objects.get_or_create(username="bob")[0])
            assert refused.value.reason == "permission"

    @pytest.mark.parametrize(
        "context",
        [{"a": object()}, {1: 2}, [1], {"a": float("nan")}, {"a": {1, 2}}],
        ids=repr,
    )
    def test_a_context_that_json_cannot_hold(self, row: Account, context: Any) -> None:
        with pytest.raises(TypeError, match="The context of book"):
            submit_event(row, "book", context)

    def test_a_context_that_is_nested_too_deeply(self, row: Account) -> None:
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]

        with pytest.raises(TypeError, match="cannot be stored as JSON"):
            submit_event(row, "book", {"deep": deep})

    @pytest.mark.mysql
    def test_a_context_that_only_this_database_refuses(self, row: Account) -> None:
        """Also where an INSERT IGNORE leaves it out."""
        deep: list[Any] = []
        for _ in range(40):
            deep = [deep]

        for key in (None, "a"):
            with pytest.raises(DatabaseError), transaction.atomic():
                submit_event(row, "book", {"deep": deep}, idempotency_key=key)

    @pytest.mark.parametrize("text", ["a\0b", "\ud800", "\\\0"], ids=ascii)
    def test_text_that_postgresql_cannot_store(self, row: Account, text: str) -> None:
        with pytest.raises(ValueError, match="take it out"):
            submit_event(row, "book", {"text": text})

    def test_a_context_that_is_too_large(self, row: Account, settings: Any) -> None:
        with pytest.raises(ValueError, match="takes 65548 bytes as JSON, and 65536 are allowed"):
            submit_event(row, "book", {"te": "x" * 65538})

        settings.FSMWORKER = {"MAX_EVENT_CONTEXT": 20}
        with pytest.raises(ValueError, match="and 20 are allowed"):
            submit_event(row, "book", {"text": "x" * 12})

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"fires_at": datetime(2020, 1, 1)}, "no datetime with a time zone"),
            ({"fires_at": datetime(2020, 1, 1, tzinfo=UTC), "delay": 1}, "give one of them"),
            ({"fires_at": datetime.max.replace(tzinfo=UTC)}, "more than 100 years away"),
            ({"fires_at": datetime.min.replace(tzinfo=UTC)}, "more than 100 years away"),
            ({"delay": -1}, "is negative"),
            ({"delay": 60, "expires_in": 60}, "would expire before it fires"),
            ({"idempotency_key": "a\0"}, "idempotency_key=.* which PostgreSQL cannot store"),
            ({"idempotency_key": "\ud800"}, "idempotency_key=.* which PostgreSQL cannot store"),
            ({"by": "\0"}, "by=.* which PostgreSQL cannot store"),
            (
                {"fires_at": datetime(2099, 1, 1, tzinfo=UTC), "expires_in": 60},
                "not before the end",
            ),
            ({"expires_in": 0}, "is not above zero"),
            ({"max_attempts": 0}, "no whole number from 1"),
            ({"max_attempts": True}, "no whole number from 1"),
        ],
        ids=str,
    )
    def test_options_out_of_their_range(
        self, row: Account, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            submit_event(row, "nothing", **options)

    @pytest.mark.parametrize("key", ["", 7], ids=repr)
    def test_an_idempotency_key_that_is_no_text(self, row: Account, key: Any) -> None:
        with pytest.raises(TypeError, match="is no text"):
            submit_event(row, "nothing", idempotency_key=key)

    def test_a_sender_of_another_kind(self, row: Account) -> None:
        with pytest.raises(TypeError, match="neither a user nor the name of a program"):
            submit_event(row, "nothing", by=7)

    def test_a_user_of_another_kind(self, row: Account) -> None:
        """The delivery would load another one, who has the same key."""

        class Customer:
            pk, is_authenticated = 1, True

            def __repr__(self) -> str:
                return "<customer 1>"

        with pytest.raises(TypeError) as refused:
            submit_event(row, "nothing", by=Customer())

        assert str(refused.value) == (
            "by=<customer 1> is no auth.User, which is what the delivery loads again to ask for "
            "its permissions; give such a user, or the name of a program."
        )

    def test_targets_that_are_none(self, row: Account) -> None:
        strangers: list[Any] = [User(pk=1), ("auth.User", 1), (Account,), (7, 1)]
        for target in strangers:
            with pytest.raises(TypeError):
                submit_event(target, "nothing")
        for label in ("tests.Acount", "Account", "account.tests"):
            with pytest.raises(LookupError, match=f"'{label}' is the label of no model"):
                submit_event((label, 1), "nothing")
        with pytest.raises(TypeError, match=r"is no Submission; give Submission\(target, trigger"):
            submit_events([(row, "nothing")])  # type: ignore[list-item]
        nameless: list[Any] = [Account(), (Account, "x"), (Account, None)]
        for target in nameless:
            with pytest.raises(ValueError, match="primary key"):
                submit_event(target, "nothing")

    def test_a_key_for_each_of_many_rows(self, row: Account) -> None:
        with pytest.raises(ValueError, match="An idempotency key names one event"):
            Account.objects.state_submit("nothing", idempotency_key="a")  # type: ignore[call-arg]

    def test_one_of_many(self, row: Account) -> None:
        with pytest.raises(NotAllowed):
            submit_events([Submission(row, "nothing"), Submission(row, "explode")])

    def test_a_row_of_a_graph_without_events(self) -> None:
        with pytest.raises(NotAllowed, match="declares: none"):
            submit_event(Noop.objects.create(), "go")


def test_of_what_a_page_has_posted_each_has_its_last_value() -> None:
    event = submit_event(Account.objects.create(), "book", QueryDict("a=1&a=2"))

    assert Event.objects.get(pk=event).context == {"a": "2"}


def test_text_that_only_looks_like_nul_is_taken() -> None:
    row = Account.objects.create()
    submit_event(row, "book", {"text": "\\u0000 \\ud800"})

    assert the_event().context == {"text": "\\u0000 \\ud800"}


def test_decimals_are_taken_as_django_s_encoder_writes_them() -> None:
    submit_event(Account.objects.create(), "book", {"amount": Decimal("1.50")})

    assert the_event().context == {"amount": "1.50"}


class TestKeys:
    """A second event with the same key for the same model is the first."""

    def test_the_first_one_s_id_is_returned(self, row: Account) -> None:
        other = Account.objects.create()
        first = submit_event(row, "nothing", idempotency_key="a")

        assert submit_event(other, "book", {"number": 1}, idempotency_key="a") == first
        assert submit_event(row, "nothing", idempotency_key="A") != first
        assert submit_event(row, "nothing", idempotency_key="b") != first
        assert Event.objects.filter(trigger="nothing").count() == 3

    def test_it_holds_for_one_model(self, row: Account) -> None:
        loose = Loose.objects.create(name="a")
        first = submit_event(row, "nothing", idempotency_key="a")

        assert submit_event(loose, "call", idempotency_key="a") != first

    def test_after_its_end_too(self, row: Account) -> None:
        first = submit_event(row, "nothing", idempotency_key="a")
        run_until_idle(Account)

        assert submit_event(row, "nothing", idempotency_key="a") == first
        assert run_until_idle(Account) == 0

    def test_in_bulk_with_others(self, row: Account) -> None:
        known = submit_event(row, "nothing", idempotency_key="b")

        keys = ["c", None, "b", "a", "c"]
        found = submit_events(Submission(row, "nothing", idempotency_key=key) for key in keys)

        assert found[0] == found[4]
        assert found[2] == known
        assert len(set(found)) == 4
        assert set(found) == set(Event.objects.values_list("pk", flat=True))

    def test_in_bulk_the_order_of_a_row_s_events_is_kept(self, row: Account) -> None:
        keys = [None, "z", "m", None, "a"]
        submit_events(
            Submission(row, "book", {"number": number}, idempotency_key=key)
            for number, key in enumerate(keys)
        )
        run_until_idle(Account)

        assert list(row.entries.order_by("pk").values_list("number", flat=True)) == [0, 1, 2, 3, 4]

    def test_the_first_one_may_be_deleted_meanwhile(self, row: Account) -> None:
        first = submit_event(row, "nothing", idempotency_key="a")

        def delete_it(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            result = execute(sql, params, many, context)
            if sql.startswith("INSERT") and Event.objects.filter(pk=first).exists():
                Event.objects.filter(pk=first).delete()
            return result

        with connection.execute_wrapper(delete_it):
            second = submit_event(row, "nothing", idempotency_key="a")

        assert second == the_event().pk != first

    @pytest.mark.mysql
    @pytest.mark.django_db(transaction=True)
    def test_at_repeatable_read_too(self, row: Account) -> None:
        """Others refuse the second one's transaction, or have no such level."""
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            if cursor.execute("SHOW VARIABLES LIKE 'innodb_snapshot_isolation'"):
                cursor.execute("SET SESSION innodb_snapshot_isolation = OFF")
        try:
            with transaction.atomic():
                assert not Event.objects.exists()
                thread = DatabaseThread(submit_event, row, "nothing", idempotency_key="a")
                thread.start()
                assert thread.result() == submit_event(row, "nothing", idempotency_key="a")
        finally:
            connection.close()

    def test_a_long_key_is_compared_whole(self, row: Account) -> None:
        one = submit_event(row, "nothing", idempotency_key="x" * 300 + "1")

        assert submit_event(row, "nothing", idempotency_key="x" * 300 + "2") != one


class TestManyRows:
    def test_one_statement_writes_an_event_for_each(self, django_assert_num_queries: Any) -> None:
        rows = Account.objects.bulk_create(Account(balance=at) for at in range(5))
        with django_assert_num_queries(1):
            number = Account.objects.filter(balance__lt=3).state_submit(
                "book", {"number": 1}, delay=5, expires_in=60, by="importer", max_attempts=2
            )

        assert number == 3
        found = list(Event.objects.order_by("pk"))
        assert {(event.row, event.row_hash) for event in found} == {
            (str(row.pk), row.pk) for row in rows[:3]
        }
        event = found[0]
        assert (event.context, event.by, event.max_attempts) == ({"number": 1}, "importer", 2)
        assert event.fires_at == event.state_next == event.submitted + timedelta(seconds=5)
        assert (event.state, event.state_failures, event.reason) == ("pending", 0, "")
        assert (event.state_claim, event.state_lease) == (None, None)

    def test_they_are_delivered(self) -> None:
        Account.objects.bulk_create(Account() for _ in range(5))
        Account.objects.order_by("-pk")[:3].state_submit("book", {"number": 1})
        run_until_idle(Account)

        assert sorted(Account.objects.values_list("balance", flat=True)) == [0, 0, 1, 1, 1]

    def test_rows_whose_keys_are_no_numbers(self) -> None:
        Loose.objects.bulk_create(Loose(name=name) for name in "abc")

        assert Loose.objects.exclude(name="b").state_submit("call") == 2
        assert sorted(Event.objects.values_list("row", flat=True)) == ["a", "c"]

    def test_a_row_that_a_join_brings_twice_gets_one(self) -> None:
        row = Account.objects.create()
        for number in (1, 2):
            row.entries.create(number=number)
        loose = Loose.objects.create(name="a")

        assert Account.objects.filter(entries__number__gt=0).state_submit("nothing") == 1
        assert Account.objects.order_by("entries__number").state_submit("nothing") == 1
        twice = Loose.objects.all() | Loose.objects.filter(pk=loose.pk)
        assert twice.union(Loose.objects.annotate(n=Value(1)), all=True).state_submit("call") == 1

    def test_none(self) -> None:
        assert Account.objects.none().state_submit("nothing") == 0
        assert submit_events([]) == []

    def test_unions(self) -> None:
        one, other = Account.objects.create(balance=1), Account.objects.create(balance=2)
        both = Account.objects.filter(balance=1).union(Account.objects.filter(balance=2))

        assert both.state_submit("nothing") == 2
        assert set(Event.objects.values_list("row_hash", flat=True)) == {one.pk, other.pk}


class TestCancelling:
    def test_a_cancelled_event_is_not_delivered(self, row: Account) -> None:
        key = submit_event(row, "book", {"number": 1})

        assert cancel_event(key) is True
        assert run_until_idle(Account) == 0
        assert the_event().state == "cancelled"
        assert not row.entries.exists()

    def test_one_that_has_ended_is_left_alone(self, row: Account) -> None:
        key = submit_event(row, "nothing")
        run_until_idle(Account)

        assert cancel_event(key) is False
        assert cancel_event(key + 1) is False
        assert the_event().state == "delivered"


def test_for_async_code() -> None:
    async def all_of_them() -> tuple[int, list[int], bool]:
        row = await Account.objects.acreate()
        one = await asubmit_event(row, "nothing")
        more = await asubmit_events([Submission(row, "nothing")])
        await row.astate_submit("nothing")
        await Account.objects.astate_submit("nothing")
        return one, more, await acancel_event(one)

    one, more, cancelled = async_to_sync(all_of_them)()

    assert Event.objects.count() == 4
    assert (cancelled, the_event(pk=one).state) == (True, "cancelled")
    assert the_event(pk=more[0]).state == "pending"


def test_rows_with_composite_keys_are_named_by_their_parts() -> None:
    if not hasattr(CompositeKind, "state_graph"):
        pytest.skip("the model has no events")
    with pytest.raises(NotAllowed):
        submit_event((CompositeKind, (1, "a")), "go")
