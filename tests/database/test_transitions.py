"""Moving rows by code: one row, declared transitions only, whole querysets."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import Count, Q
from django.test.utils import CaptureQueriesContext

from django_fsmworker import clock
from django_fsmworker.exceptions import StaleState, UndeclaredTransition, UnknownState
from django_fsmworker.graph import State, StateGraph
from django_fsmworker.models import FailureRecord
from django_fsmworker.signals import state_changed
from django_fsmworker.store.failures import Failure, record
from django_fsmworker.testing import travel
from testapp.models import Order, OrderStates
from tests.app.models import (
    Attachment,
    BasicModel,
    BasicStates,
    Delivery,
    Expiring,
    Hidden,
    RelatedKey,
    TextKey,
    Trouble,
    UUIDKey,
)

pytestmark = pytest.mark.django_db


class TestOneRow:
    def test_into_a_state_by_member_or_name(self):
        row = Order.objects.create()

        row.state_transition(OrderStates.paid)
        assert row.state == "paid"
        row.state_transition("shipped")

        assert Order.objects.get(pk=row.pk).state == "shipped"

    def test_a_forced_move_does_not_ask_for_the_present_state(self):
        row = Order.objects.create()
        Order.objects.get(pk=row.pk).state_transition("shipped")

        row.state_transition("paid")

        assert Order.objects.get(pk=row.pk).state == "paid"

    def test_a_moved_row_is_free_due_and_without_failures(self):
        row = Order.objects.create(state_failures=2)
        (row,) = Order.state_get_ready(1, 30)

        row.state_transition("paid")

        assert row.state_next is not None
        assert row.state_next - row.state_changed < timedelta(seconds=1)
        assert (row.state_lease, row.state_claim, row.state_failures) == (None, None, 0)

    def test_a_state_with_start_after_is_due_then(self):
        row = BasicModel.objects.create()

        row.state_transition("pending_delete")

        assert row.state_next is not None
        waits = row.state_next - row.state_changed
        assert timedelta(seconds=5) <= waits < timedelta(seconds=6)

    def test_a_timeout_alone_is_a_due_time(self):
        row = Trouble.objects.create()

        row.state_transition("waiting")

        assert row.state_next is not None
        waits = row.state_next - row.state_changed
        assert timedelta(seconds=30) <= waits < timedelta(seconds=31)

    @pytest.mark.parametrize("state", ["done", "deleted", "timed_out"])
    def test_manual_and_terminal_states_are_never_due(self, state):
        row = BasicModel.objects.create()

        row.state_transition(state)

        assert row.state_next is None

    def test_an_unknown_state_is_refused(self):
        row = Order.objects.create()

        with pytest.raises(UnknownState):
            row.state_transition("payed")

        assert Order.objects.get(pk=row.pk).state == "new"

    def test_unsaved_fields_are_left_alone(self):
        row = Order.objects.create()
        row.tracking = "t1"

        row.state_transition("paid")

        assert row.tracking == "t1"
        assert Order.objects.get(pk=row.pk).tracking == ""

    def test_a_row_that_is_gone(self):
        row = Order.objects.create()
        Order.objects.all().delete()

        with pytest.raises(Order.DoesNotExist):
            row.state_transition("paid")

    @pytest.mark.parametrize("model", [UUIDKey, Hidden])
    def test_other_keys_and_hidden_rows(self, model):
        row = model.objects.create()

        row.state_transition("done")

        assert row.state == "done"

    def test_a_row_with_a_related_key_moves(self):
        row = RelatedKey.objects.create(text=TextKey.objects.create(code="a"))

        row.state_transition("done")

        assert RelatedKey.objects.get(pk="a").state == "done"

    def test_the_time_of_entry_is_the_travelled_one(self):
        row = Order.objects.create()

        with travel(seconds=3600):
            row.state_transition("paid")
            assert row.state_changed > clock.now() - timedelta(minutes=1)


class TestDeclaredTransitionsOnly:
    def test_a_declared_one_is_made(self):
        row = Order.objects.create()

        row.state_transition("paid", force=False)

        assert Order.objects.get(pk=row.pk).state == "paid"

    def test_an_undeclared_one_is_refused(self):
        row = Order.objects.create()

        with pytest.raises(UndeclaredTransition) as caught:
            row.state_transition("shipped", force=False)

        assert str(caught.value) == (
            f"testapp.Order {row.pk} cannot go from new to shipped; declared from new: failed, "
            f"paid. Declare new.transitions_to(shipped) or force it."
        )
        assert Order.objects.get(pk=row.pk).state == "new"

    def test_one_from_a_terminal_state_is_refused(self):
        row = Order.objects.create(state="shipped")

        with pytest.raises(UndeclaredTransition) as caught:
            row.state_transition("paid", force=False)

        assert "declared from shipped: none: it is terminal." in str(caught.value)

    def test_to_where_only_a_guard_leads(self):
        row = Delivery.objects.create(state="pending")

        with pytest.raises(UndeclaredTransition) as caught:
            row.state_transition("held", force=False)

        assert str(caught.value) == (
            f"tests.Delivery {row.pk} cannot go from pending to held; declared from pending: "
            f"delivered, gone. Declare pending.transitions_to(held) or force it."
        )

    def test_where_there_are_only_guards(self):
        class GuardedStates(StateGraph):
            new = State()
            done = State()
            new.transitions_to(done, when=Q())

        row = Delivery.objects.create(state="held")
        row.state_graph = GuardedStates  # type: ignore[misc]
        row.__dict__["state"] = "new"

        with pytest.raises(UndeclaredTransition) as caught:
            row.state_transition("done", force=False)

        assert "declared from new: none without a guard or an event." in str(caught.value)

    def test_one_from_a_state_the_row_has_left_is_refused(self):
        row = Order.objects.create()
        Order.objects.get(pk=row.pk).state_transition("shipped")

        with pytest.raises(StaleState):
            row.state_transition("paid", force=False)

    def test_what_counts_is_the_state_that_was_loaded(self):
        row = Order.objects.create()
        row.state = "paid"

        with pytest.raises(UndeclaredTransition, match="cannot go from new to shipped"):
            row.state_transition("shipped", force=False)

    def test_one_of_a_row_with_a_deferred_state_is_made(self):
        row = Order.objects.only("pk").get(pk=Order.objects.create().pk)

        row.state_transition("paid", force=False)

        assert Order.objects.get(pk=row.pk).state == "paid"


class TestQuerysets:
    def test_every_row_whatever_its_own(self):
        rows = [Order.objects.create(state=state) for state in ("new", "paid", "shipped")]
        other = Order.objects.create(payment_id="p1")

        number = Order.state_transition_queryset(Order.objects.exclude(pk=other.pk), "failed")

        assert number == 3
        assert Order.objects.in_state("failed").count() == len(rows)

    def test_claims_are_revoked_and_failures_forgotten(self):
        Order.objects.create(state_failures=2)
        (held,) = Order.state_get_ready(1, 30)
        assert held.state_claim is not None

        for _ in range(2):  # once is enough
            Order.state_transition_queryset(Order.objects.all(), "paid")

        row = Order.objects.get()
        assert (row.state_lease, row.state_claim) == (held.state_lease, -1 - held.state_claim)
        assert row.state_failures == 0
        assert not Order.objects.due().exists()

    def test_a_state_with_start_after_is_due_then(self):
        BasicModel.objects.create()

        BasicModel.state_transition_queryset(BasicModel.objects.all(), BasicStates.pending_delete)

        row = BasicModel.objects.get()
        assert row.state_next is not None
        assert row.state_next - row.state_changed >= timedelta(seconds=5)

    def test_an_empty_queryset_moves_nothing(self):
        assert Order.state_transition_queryset(Order.objects.none(), "paid") == 0
        assert Order.state_transition_queryset(Order.objects.all(), "paid") == 0

    def test_an_unknown_state_is_refused(self):
        with pytest.raises(UnknownState):
            Order.state_transition_queryset(Order.objects.all(), "payed")

    def test_a_slice_moves_just_its_rows(self):
        rows = [Order.objects.create(payment_id=str(number)) for number in range(5)]

        number = Order.state_transition_queryset(Order.objects.order_by("-pk")[:2], "paid")

        assert number == 2
        moved = Order.objects.in_state("paid").order_by("pk").values_list("pk", flat=True)
        assert list(moved) == [rows[3].pk, rows[4].pk]

    def test_a_distinct_queryset_is_moved(self):
        Order.objects.create()

        assert Order.state_transition_queryset(Order.objects.distinct(), "paid") == 1

    def test_a_union_is_moved(self):
        Order.objects.create()
        Order.objects.create(state="failed")
        both = Order.objects.filter(state="new").union(Order.objects.filter(state="failed"))

        assert Order.state_transition_queryset(both, "paid") == 2

    @pytest.mark.parametrize(
        "rows",
        [
            lambda: Order.objects.values("payment_id"),
            lambda: Order.objects.values_list("tracking", flat=True),
            lambda: Order.objects.only("payment_id"),
            lambda: Order.objects.defer("state"),
            lambda: Order.objects.order_by("-payment_id"),
            lambda: Order.objects.filter(Q(payment_id="p1") | Q(state="new")),
        ],
        ids=["values", "values_list", "only", "defer", "order_by", "or"],
    )
    def test_querysets_of_other_shapes_are_moved(self, rows):
        Order.objects.create(payment_id="p1")

        assert Order.state_transition_queryset(rows(), "paid") == 1
        assert Order.objects.get().state == "paid"

    def test_joins_count_each_row_once(self):
        row = Expiring.objects.create()
        Expiring.objects.create()
        for _ in range(2):
            Attachment.objects.create(row=row)

        number = Expiring.state_transition_queryset(
            Expiring.objects.filter(attachment__isnull=False), "gone"
        )

        assert number == 1
        assert list(Expiring.objects.in_state("gone")) == [row]

    def test_a_queryset_with_an_outer_join_is_moved(self):
        row = Expiring.objects.create()

        number = Expiring.state_transition_queryset(
            Expiring.objects.filter(attachment__isnull=True), "gone"
        )

        assert number == 1
        assert Expiring.objects.get(pk=row.pk).state == "gone"

    def test_a_queryset_filtered_by_an_aggregate_is_moved(self):
        row = Expiring.objects.create()
        Attachment.objects.create(row=row)
        Expiring.objects.create()
        many = Expiring.objects.annotate(attachments=Count("attachment"))

        number = Expiring.state_transition_queryset(many.filter(attachments__gt=0), "gone")

        assert number == 1
        assert list(Expiring.objects.in_state("gone")) == [row]

    def test_thousands_in_a_few_statements(self, vendor):
        Order.objects.bulk_create([Order() for _ in range(5000)])

        with CaptureQueriesContext(connection) as queries:
            number = Order.state_transition_queryset(Order.objects.all(), "paid")

        assert number == 5000
        assert Order.objects.in_state("paid").count() == 5000
        # MariaDB and MySQL read the keys first, and lock 500 rows at a time.
        wanted = 13 if vendor == "mysql" else 3
        assert len([each for each in queries if "SAVEPOINT" not in each["sql"]]) == wanted

    def test_more_than_a_statement_takes(self, monkeypatch):
        monkeypatch.setattr("django_fsmworker.models.locking.MOST_KEYS", 2)
        monkeypatch.setattr("django_fsmworker.models.forcing.MOST_KEYS", 2)
        Order.objects.bulk_create([Order() for _ in range(5)])

        assert Order.state_transition_queryset(Order.objects.all(), "paid") == 5
        assert Order.state_transition_queryset(Order.objects.all()[:5], "shipped") == 5
        assert Order.objects.in_state("shipped").count() == 5

    @pytest.mark.django_db(databases=["default", "other"])
    def test_only_rows_of_its_own_database_are_moved(self):
        Order.objects.using("other").create()
        Order.objects.create()

        number = Order.state_transition_queryset(Order.objects.using("other"), "paid")

        assert number == 1
        assert Order.objects.get().state == "new"
        assert Order.objects.using("other").get().state == "paid"


class TestFailures:
    @pytest.mark.parametrize("way", ["save", "force", "declared", "queryset"])
    def test_are_past_once_somebody_moves_the_row(self, way):
        row, other = Order.objects.create(state_failures=1), Order.objects.create(state="paid")
        failure = Failure("RuntimeError", "no")
        record("default", Order, [(each.pk, "new", failure) for each in (row, other)], "worker")

        if way == "save":
            row.state = "paid"
            row.save()
        elif way == "queryset":
            Order.state_transition_queryset(Order.objects.filter(pk=row.pk), "paid")
        else:
            row.state_transition("paid", force=way == "force")

        assert Order.objects.get(pk=row.pk).state_failures == 0
        failing = FailureRecord.objects.filter(resolved=None)
        assert list(failing.values_list("row", flat=True)) == [str(other.pk)]


class TestSignals:
    @pytest.fixture
    def heard(self):
        told: list[dict[str, object]] = []

        def listen(sender, **kwargs):
            told.append({"sender": sender} | kwargs)

        state_changed.connect(listen, sender=Order)
        yield told
        state_changed.disconnect(listen, sender=Order)

    @pytest.mark.parametrize("way", ["save", "force", "declared", "queryset"])
    def test_sent_after_the_commit(self, heard, way, django_capture_on_commit_callbacks):
        row = Order.objects.create()

        with django_capture_on_commit_callbacks(execute=True):
            if way == "save":
                row.state = "paid"
                row.save()
            elif way == "queryset":
                Order.state_transition_queryset(Order.objects.all(), "paid")
            else:
                row.state_transition("paid", force=way == "force")
            assert heard == []

        (told,) = heard
        told.pop("signal")
        assert told == {
            "sender": Order,
            "pk": row.pk,
            "source": "new",
            "target": "paid",
            "cause": "forced",
            "using": "default",
            "by": None,
            "reason": "",
            "trigger": None,
        }

    def test_nobody_listens_nothing_to_do(self, django_capture_on_commit_callbacks):
        row = Order.objects.create()

        with django_capture_on_commit_callbacks() as callbacks:
            row.state_transition("paid")

        assert callbacks == []
