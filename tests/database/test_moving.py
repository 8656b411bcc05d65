"""``state_move()`` and its async twin: declared transitions, other columns, rows that are held."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, models, transaction
from django.db.models import F, QuerySet, Value
from django.db.models.functions import Concat
from django.test.utils import CaptureQueriesContext, isolate_apps
from django.utils.translation import override

from django_fsmworker.exceptions import NotAllowed, UnknownState
from django_fsmworker.models import (
    FailureRecord,
    StateField,
    StatorModel,
    forcing,
    patience,
    resolving,
)
from django_fsmworker.models.patience import LONGEST_PAUSE
from django_fsmworker.signals import state_changed
from django_fsmworker.store import Fence, store_for
from django_fsmworker.store.failures import Failure, record
from testapp.models import Order, OrderStates
from tests.app.models import Hidden, NoopStates, Purchase, RelatedKey, TextKey, UUIDKey
from tests.app.models.kinds import ChildKind, CompositeKind, InvoiceKind, ProxyKind, Reminder

HELD = (
    "now: a runner holds it for its check. Try again, wait longer, or move it at once with "
    "running='revoke'."
)


def stored(row: Any) -> Any:
    rows: QuerySet[Any] = QuerySet(type(row))
    return rows.get(pk=row.pk)


def held() -> Order:
    """A new order that a runner has claimed."""
    Order.objects.create()
    (row,) = Order.state_get_ready(1, 30)
    return row


@pytest.mark.django_db
class TestTheMove:
    @pytest.mark.parametrize("state", ["paid", OrderStates.paid])
    def test_a_declared_transition_is_made(self, state):
        row = Order.objects.create()

        row.state_move(state)

        assert (row.state, stored(row).state) == ("paid", "paid")
        assert stored(row).state_changed == row.state_changed

    def test_other_columns_are_written_with_it(self):
        row = Order.objects.create()
        shouted = Concat(F("state"), Value("!"))

        row.state_move("paid", set={"payment_id": "pay-1", "tracking": shouted})

        assert (row.payment_id, row.tracking) == ("pay-1", "new!")
        assert (stored(row).payment_id, stored(row).tracking) == ("pay-1", "new!")

    def test_columns_that_are_not_named_are_left_alone(self):
        row = Order.objects.create()
        row.tracking = "t1"

        row.state_move("paid", set={"payment_id": "pay-1"})

        assert (row.tracking, stored(row).tracking) == ("t1", "")

    def test_what_counts_is_the_row_in_the_database(self):
        row = Order.objects.create()
        Order.objects.get().state_move("paid")

        row.state_move("shipped")

        assert stored(row).state == "shipped"

    def test_a_deferred_state(self):
        row = Order.objects.only("pk").get(pk=Order.objects.create().pk)

        row.state_move("paid")

        assert (row.state, stored(row).state) == ("paid", "paid")

    @pytest.mark.parametrize("model", [UUIDKey, Hidden, ProxyKind])
    def test_other_keys_proxies_and_hidden_rows(self, model):
        row = model.objects.create()

        row.state_move("done")

        assert (row.state, stored(row).state) == ("done", "done")

    def test_a_related_key_and_a_column_of_another_name(self):
        row = RelatedKey.objects.create(text=TextKey.objects.create(code="a"))

        row.state_move("done")

        assert RelatedKey.objects.get(pk="a").state == "done"

    def test_a_composite_key(self):
        row = CompositeKind.objects.create(tenant=1, code="a")

        row.state_move("done", set={"wish": "w"})

        assert (stored(row).state, stored(row).wish) == ("done", "w")

    def test_the_columns_of_a_multi_table_child(self):
        row = ChildKind.objects.create()

        row.state_move("done", set={"wish": "parent's", "size": F("size") + 3})

        assert (row.state, row.wish, row.size) == ("done", "parent's", 3)
        assert (stored(row).state, stored(row).wish, stored(row).size) == ("done", "parent's", 3)

    @pytest.mark.parametrize("model", [InvoiceKind, Reminder])
    def test_the_columns_of_a_plain_parent(self, model):
        row = model.objects.create()

        row.state_move("done", set={"wish": "document's", "total": F("total") + 3})

        assert (row.state, row.wish, row.total) == ("done", "document's", 3)
        assert (stored(row).state, stored(row).wish, stored(row).total) == ("done", "document's", 3)

    def test_failures_are_past(self):
        row, other = Order.objects.create(), Order.objects.create()
        failure = Failure("RuntimeError", "no")
        record("default", Order, [(each.pk, "new", failure) for each in (row, other)], "worker")

        row.state_move("paid")  # nothing in the row tells of its record

        unresolved = FailureRecord.objects.filter(resolved=None)
        assert list(unresolved.values_list("row", flat=True)) == [str(other.pk)]

    @pytest.mark.parametrize("way", ["move", "transition", "declared", "many"])
    @pytest.mark.parametrize("keep", [False, True])
    def test_failures_are_kept_for_who_wants_that(self, way, keep):
        """A row that was put on hold and is resumed has all its attempts, or the rest of them."""
        row = Order.objects.create()
        Order.objects.update(state_failures=2)
        record("default", Order, [(row.pk, "new", Failure("RuntimeError", "no"))], "worker")
        row = Order.objects.get()

        if way == "move":
            row.state_move("paid", keep_failures=keep)
        elif way == "many":
            Order.state_transition_queryset(Order.objects.all(), "paid", keep_failures=keep)
        else:
            row.state_transition("paid", force=way == "transition", keep_failures=keep)

        assert (stored(row).state, stored(row).state_failures) == ("paid", 2 if keep else 0)
        assert FailureRecord.objects.filter(resolved=None).exists() is keep

    def test_who_and_why_are_told(self, django_capture_on_commit_callbacks):
        row, told = Order.objects.create(), []

        def listen(sender, **kwargs):
            told.append((kwargs["source"], kwargs["cause"], kwargs["by"], kwargs["reason"]))

        state_changed.connect(listen, sender=Order)
        try:
            with django_capture_on_commit_callbacks(execute=True):
                row.state_move("paid", by="ann", reason="seen the money")
        finally:
            state_changed.disconnect(listen, sender=Order)

        assert told == [("new", "move", "ann", "seen the money")]

    def test_who_and_why_are_logged(self, caplog):
        row = Order.objects.create()

        with caplog.at_level("DEBUG", "django_fsmworker.models.moving"):
            row.state_move("paid", by="ann", reason="seen the money")
            row.state_move("failed")

        assert [each.getMessage() for each in caplog.records] == [
            f"testapp.Order {row.pk} moved from new to paid by ann: seen the money.",
            f"testapp.Order {row.pk} moved from paid to failed.",
        ]

    def test_a_row_that_is_gone(self):
        row = Order.objects.create()
        Order.objects.all().delete()

        with pytest.raises(Order.DoesNotExist):
            row.state_move("paid")


@pytest.mark.django_db
class TestStatements:
    """How many a move takes: an UPDATE, and a SELECT where an UPDATE returns nothing."""

    @pytest.fixture
    def least(self, vendor):
        return 2 if vendor == "mysql" else 1

    @pytest.mark.parametrize("way", ["move", "set", "force", "declared"])
    def test_the_least_for_one_row(self, way, least):
        Order.objects.create()
        row = Order.objects.get()

        with CaptureQueriesContext(connection) as queries:
            if way == "move":
                row.state_move("paid")
            elif way == "set":
                row.state_move("paid", set={"payment_id": "pay-1"})
            else:
                row.state_transition("paid", force=way == "force")

        assert len(queries) == least
        assert stored(row).state == row.state == "paid"

    def test_a_refusal(self):
        row = Order.objects.create(state="shipped")

        with CaptureQueriesContext(connection) as queries, pytest.raises(NotAllowed):
            row.state_move("paid")

        assert len(queries) == 1

    def test_many_rows(self, vendor):
        Order.objects.bulk_create([Order() for _ in range(500)])

        with CaptureQueriesContext(connection) as queries:
            Order.state_transition_queryset(Order.objects.all(), "paid")

        # Between two looks for failures on record; or keys, locks, the write, and the failures.
        wanted = 4 if vendor == "mysql" else 3
        assert len([each for each in queries if "SAVEPOINT" not in each["sql"]]) == wanted

    @pytest.mark.sqlite
    @pytest.mark.postgresql
    def test_many_rows_of_a_graph_with_events(self):
        Purchase.objects.bulk_create([Purchase() for _ in range(500)])

        with CaptureQueriesContext(connection) as queries:
            assert Purchase.state_transition_queryset(Purchase.objects.all(), "held") == 500

        # Between two looks for failures, and two for events that wait.
        assert len([each for each in queries if "SAVEPOINT" not in each["sql"]]) == 5

    def test_many_rows_of_which_few_failed(self, vendor):
        rows = [Order.objects.create() for _ in range(5)]
        failure = Failure("RuntimeError", "no")
        record("default", Order, [(row.pk, "new", failure) for row in rows[:3]], "worker")

        with CaptureQueriesContext(connection) as queries:
            Order.state_transition_queryset(Order.objects.exclude(pk=rows[0].pk), "paid")

        # A look, keys and locks, the write, and the failures; MySQL locks keys that it has read.
        wanted = 4
        assert len([each for each in queries if "SAVEPOINT" not in each["sql"]]) == wanted
        unresolved = FailureRecord.objects.filter(resolved=None)
        assert list(unresolved.values_list("row", flat=True)) == [str(rows[0].pk)]

    @pytest.mark.parametrize("most", [1, 3])
    def test_only_so_many_failures_are_read(self, monkeypatch, most):
        """Whether they are few or many, those of the moved rows are resolved, and no others."""
        rows = [Order.objects.create() for _ in range(6)]
        failure = Failure("RuntimeError", "no")
        record("default", Order, [(row.pk, "new", failure) for row in rows[:3]], "worker")
        monkeypatch.setattr(resolving, "MOST_COMPARED", most)

        with CaptureQueriesContext(connection) as queries:
            Order.state_transition_queryset(Order.objects.exclude(pk=rows[0].pk), "paid")

        read = [each["sql"] for each in queries if f"LIMIT {most + 1}" in each["sql"]]
        assert len(read) == 1
        unresolved = FailureRecord.objects.filter(resolved=None)
        assert list(unresolved.values_list("row", flat=True)) == [str(rows[0].pk)]

    @pytest.mark.sqlite
    @pytest.mark.postgresql
    def test_a_failure_that_is_noted_meanwhile(self, monkeypatch):
        """It is not left unresolved: the rows are written once more, with their keys."""
        row, failure = Order.objects.create(), Failure("RuntimeError", "no")
        look, looks = resolving.unresolved_of, []

        def first_look_is_too_early(model, using):
            looks.append(using)
            return look(model, using) if len(looks) > 1 else FailureRecord.objects.none()

        monkeypatch.setattr(forcing, "unresolved_of", first_look_is_too_early)
        record("default", Order, [(row.pk, "new", failure)], "worker")

        assert Order.state_transition_queryset(Order.objects.all(), "paid") == 1

        assert stored(row).state == "paid"
        assert not FailureRecord.objects.filter(resolved=None).exists()

    @pytest.mark.postgresql
    @pytest.mark.parametrize("at_once", [True, False])
    @pytest.mark.parametrize("claimed", [0, 2])
    def test_runners_are_told_only_if_a_row_was_held(self, monkeypatch, claimed, at_once):
        Order.objects.bulk_create([Order() for _ in range(3)])
        Order.state_get_ready(claimed, 30)
        told: list[Any] = []
        monkeypatch.setattr(forcing, "hint_revoked", lambda *args: told.append(args))
        monkeypatch.setattr(forcing, "_can_write_at_once", lambda rows: at_once)

        assert Order.state_transition_queryset(Order.objects.all(), "paid") == 3

        assert told == ([(Order, "default")] if claimed else [])
        assert Order.objects.filter(state_claim__lt=0).count() == claimed

    def test_many_rows_while_somebody_listens(self, vendor):
        """Then the states that they came from are read."""
        rows = [Order.objects.create(), Order.objects.create()]
        state_changed.connect(print, sender=Order)
        try:
            with CaptureQueriesContext(connection) as queries:
                Order.state_transition_queryset(Order.objects.all(), "paid")
        finally:
            state_changed.disconnect(print, sender=Order)

        assert len([each for each in queries if "SAVEPOINT" not in each["sql"]]) == (
            4 if vendor == "mysql" else 3
        )
        assert {stored(row).state for row in rows} == {"paid"}


@pytest.mark.django_db
class TestRefused:
    def test_an_undeclared_transition(self):
        row = Order.objects.create()

        with pytest.raises(NotAllowed) as caught:
            row.state_move("shipped")

        assert caught.value.reason == "source_state"
        assert str(caught.value) == (
            f"testapp.Order {row.pk} cannot go from new to shipped; "
            f"this move is allowed from: paid."
        )
        assert stored(row).state == "new"

    def test_a_state_that_is_not_among_only_from(self):
        row = Order.objects.create()

        with pytest.raises(NotAllowed) as caught:
            row.state_move("failed", only_from=["paid"], set={"payment_id": "pay-1"})

        assert str(caught.value) == (
            f"testapp.Order {row.pk} cannot go from new to failed; this move is allowed from: paid."
        )
        assert stored(row).payment_id == ""

    @pytest.mark.parametrize("only_from", ["new", OrderStates.new, ["new"], (OrderStates.new,)])
    def test_a_state_that_is_among_only_from_is_not(self, only_from):
        row = Order.objects.create()

        row.state_move("failed", only_from=only_from)

        assert stored(row).state == "failed"

    def test_nowhere_to_come_from(self):
        row = Order.objects.create()

        with pytest.raises(NotAllowed, match="this move is allowed from: no state."):
            row.state_move("new")

    def test_names_that_the_graph_does_not_declare(self):
        row = Order.objects.create()

        with pytest.raises(UnknownState):
            row.state_move("payed")
        with pytest.raises(UnknownState):
            row.state_move("paid", only_from="knew")

    @pytest.mark.parametrize("verb", ["state_move", "state_transition"])
    @pytest.mark.parametrize("name", ["state", "state_next"])
    def test_an_assigned_column_that_would_be_dropped(self, verb, name):
        Order.objects.create()
        row = Order.objects.get()
        setattr(row, name, {"state": "failed", "state_next": None}[name])

        with pytest.raises(ValueError) as caught:
            getattr(row, verb)("paid")

        assert str(caught.value) == (
            f"testapp.Order {row.pk} has unsaved values of {name}, which {verb}() would drop; "
            f"save() them, or forget them with refresh_from_db(), before the call."
        )
        assert stored(row).state == "new"

    @pytest.mark.parametrize("name", ["state", "state_next", "id", "pk"])
    def test_columns_of_the_engine_and_the_key(self, name):
        row = Order.objects.create()

        with pytest.raises(ValueError, match=rf"^state_move\(\) cannot set {name}: "):
            row.state_move("paid", set={name: 1})

    @pytest.mark.parametrize("name", ["tenant", "code"])
    def test_a_part_of_a_key_of_several_columns(self, name):
        row = CompositeKind.objects.create(tenant=1, code="1")

        with pytest.raises(ValueError, match=rf"cannot set {name}: it is the row's key or"):
            row.state_move("stuck", set={name: 2})

    @isolate_apps("testapp")
    def test_a_column_that_the_database_works_out(self):
        class Sum(StatorModel):
            __module__ = "testapp.models"
            state = StateField(NoopStates)
            total = models.GeneratedField(
                expression=models.F("state_failures") + 1,
                output_field=models.IntegerField(),
                db_persist=True,
            )

        with pytest.raises(ValueError) as caught:
            Sum(pk=1, state="new").state_move("done", set={"total": 2})

        assert str(caught.value) == "state_move() cannot set total: the database works it out."

    def test_a_column_that_is_none(self):
        row = Order.objects.create()

        with pytest.raises(ValueError) as caught:
            row.state_move("paid", set={"paiment_id": 1})

        assert str(caught.value) == (
            "state_move() cannot set paiment_id: testapp.Order has no such column."
        )

    def test_a_way_that_is_none(self):
        row = Order.objects.create()

        with pytest.raises(ValueError) as caught:
            row.state_move("paid", running="stop")  # type: ignore[arg-type]

        assert str(caught.value) == "running='stop' is none of 'wait', 'refuse' and 'revoke'."

    def test_there_is_a_sentence_for_users(self):
        row = Order.objects.create(state="shipped")

        with pytest.raises(NotAllowed) as caught:
            row.state_move("paid")

        with override("en"):
            assert str(caught.value.user_message) == "This cannot be done in the present state."
        again = pickle.loads(pickle.dumps(caught.value))
        assert (str(again), again.reason) == (str(caught.value), "source_state")


class TestWhileARunnerHoldsTheRow:
    @pytest.fixture(autouse=True)
    def database(self, transactional_db) -> None:
        """No transaction: on SQLite nobody else could write meanwhile."""

    @pytest.fixture
    def pauses(self, monkeypatch) -> list[float]:
        """The pauses that a move makes; a move in a test takes no time."""
        made: list[float] = []
        monkeypatch.setattr("django_fsmworker.models.stator_model.time.sleep", made.append)
        return made

    def test_it_waits_until_the_row_is_free(self, monkeypatch):
        row = held()

        def settle(pause: float) -> None:
            store_for("default").hand_back(Order, [Fence.of(row)])

        monkeypatch.setattr("django_fsmworker.models.stator_model.time.sleep", settle)
        Order.objects.get().state_move("paid")

        assert Order.objects.get().state == "paid"

    def test_it_takes_the_row_from_where_the_check_put_it(self, monkeypatch):
        held()
        monkeypatch.setattr(
            "django_fsmworker.models.stator_model.time.sleep",
            lambda pause: Order.objects.update(state="paid", state_claim=None, state_lease=None),
        )

        Order.objects.get().state_move("failed")

        assert Order.objects.get().state == "failed"

    def test_for_as_long_as_it_may(self, monkeypatch, pauses):
        row, now = held(), [0.0]
        monkeypatch.setattr("django_fsmworker.models.patience.time.monotonic", lambda: now[0])

        def sleep(pause: float) -> None:
            pauses.append(pause)
            now[0] += pause

        monkeypatch.setattr("django_fsmworker.models.stator_model.time.sleep", sleep)

        with pytest.raises(NotAllowed) as caught:
            row.state_move("paid")

        assert caught.value.reason == "running"
        assert str(caught.value) == f"testapp.Order {row.pk} cannot go from new to paid {HELD}"
        assert sum(pauses) == pytest.approx(5.0)
        assert max(pauses) == LONGEST_PAUSE

    def test_refuse_does_not_wait(self, pauses):
        row = held()

        with pytest.raises(NotAllowed) as caught:
            row.state_move("paid", running="refuse", set={"payment_id": "pay-1"})

        assert (caught.value.reason, pauses) == ("running", [])
        assert (stored(row).state, stored(row).payment_id) == ("new", "")

    def test_revoke_takes_the_row(self, pauses):
        row = held()

        row.state_move("paid", running="revoke")

        assert pauses == []
        assert (stored(row).state, stored(row).state_claim) == ("paid", None)

    def test_a_lease_that_has_run_out_holds_nothing(self, pauses):
        row = held()
        Order.objects.update(state_lease=F("state_changed"))

        row.state_move("paid")

        assert (stored(row).state, pauses) == ("paid", [])

    def test_in_a_transaction_that_would_keep_the_runner_out(self, vendor, pauses):
        row = held()

        with transaction.atomic(), pytest.raises(NotAllowed) as caught:
            row.state_move("paid", wait=0 if vendor != "sqlite" else 5)

        assert (caught.value.reason, pauses) == ("running", [])


@pytest.mark.django_db
class TestAsync:
    """The twins of the verbs, called as a view of an event loop does."""

    def test_move(self):
        Order.objects.create()
        row = Order.objects.only("pk").get()

        async_to_sync(row.astate_move)("paid", set={"payment_id": "pay-1"}, by="ann")

        assert (stored(row).state, stored(row).payment_id) == ("paid", "pay-1")

    def test_a_move_waits(self, monkeypatch):
        row = held()

        async def settle(pause: float) -> None:
            await Order.objects.aupdate(state_lease=None, state_claim=None)

        monkeypatch.setattr("django_fsmworker.models.stator_model.asyncio.sleep", settle)
        monkeypatch.setattr(patience, "_can_be_settled_meanwhile", lambda using: True)
        async_to_sync(row.astate_move)("paid")

        assert stored(row).state == "paid"

    def test_the_other_verbs(self):
        async def all_of_them() -> None:
            (row,) = await Order.objects.abulk_create([Order(payment_id="pay-1")])
            row = await Order.objects.in_state("new").aget()
            assert await Order.astate_count_pending() == 1
            assert await Order.astate_get_ready(1, 30) == [row]
            await row.arefresh_from_db()
            assert await row.astate_transition_check() is OrderStates.paid
            await row.astate_transition("shipped")
            assert await Order.astate_do_deletes() == 0
            assert await Order.astate_transition_queryset(Order.objects.all(), "failed") == 1

        async_to_sync(all_of_them)()

        assert Order.objects.get().state == "failed"
