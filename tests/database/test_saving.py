"""Every way to save a row that was moved since it was loaded: nothing stale overwrites."""

from __future__ import annotations

import copy
import io
import json
import pickle
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.core import serializers
from django.core.exceptions import FieldError
from django.core.management import call_command
from django.db import DatabaseError, models, transaction
from django.forms import modelform_factory

from django_fsmworker import clock
from django_fsmworker.exceptions import StaleState, UnknownState
from testapp.models import Order, OrderStates
from tests.app.models import RelatedKey, TextKey, Trouble, TroubleStates, UUIDKey

pytestmark = pytest.mark.django_db

STATE_COLUMNS = (
    "state",
    "state_changed",
    "state_next",
    "state_lease",
    "state_claim",
    "state_failures",
)


def moved_meanwhile(**fields):
    """An order as it was loaded while it was new; the runner has moved it to ``shipped`` since."""
    row = Order.objects.get(pk=Order.objects.create(payment_id="p1", **fields).pk)
    Order.objects.get(pk=row.pk).state_transition("shipped")
    return row


def claimed_meanwhile():
    """An order as it was loaded while it was free; a runner has claimed it since."""
    row = Order.objects.get(pk=Order.objects.create(payment_id="p1").pk)
    assert [each.pk for each in Order.state_get_ready(1, 30)] == [row.pk]
    return row


def columns(row, using="default"):
    return Order.objects.using(using).values(*STATE_COLUMNS).get(pk=row.pk)


class TestPlainSaves:
    def test_save_leaves_the_state_columns(self):
        row = moved_meanwhile()
        before = columns(row)

        row.tracking = "t1"
        row.save()

        assert columns(row) == before
        assert Order.objects.get(pk=row.pk).tracking == "t1"

    def test_save_leaves_a_claim_alone(self):
        row = claimed_meanwhile()
        before = columns(row)

        row.save()

        assert columns(row) == before
        assert before["state_claim"] is not None

    def test_the_instance_keeps_what_it_saw(self):
        row = moved_meanwhile()

        row.save()

        assert row.state == "new"

    def test_then_a_move_by_hand_is_still_stale(self):
        row = moved_meanwhile()
        row.save()

        row.state = "paid"

        with pytest.raises(StaleState):
            row.save()

    def test_save_of_one_field_leaves_the_state_columns(self):
        row = moved_meanwhile()
        before = columns(row)

        row.tracking = "t1"
        row.save(update_fields=["tracking"])

        assert columns(row) == before

    def test_update_fields_that_name_state_columns(self):
        row = moved_meanwhile()
        before = columns(row)

        row.save(update_fields=["tracking", *STATE_COLUMNS])

        assert columns(row) == before

    def test_save_of_no_field_writes_no_state(self):
        row = moved_meanwhile()

        row.state = "paid"
        row.save(update_fields=[])

        assert columns(row)["state"] == "shipped"

    def test_update_fields_without_the_state_leave_a_move_for_later(self):
        row = Order.objects.create()

        row.state = "paid"
        row.save(update_fields=["tracking"])
        assert columns(row)["state"] == "new"
        row.save()

        assert columns(row)["state"] == "paid"

    def test_update_fields_from_a_generator(self):
        row = Order.objects.create()

        row.state = "paid"
        row.save(update_fields=(name for name in ("state", "tracking")))

        assert columns(row)["state"] == "paid"

    def test_a_row_loaded_with_only_leaves_the_state_columns(self):
        pk = moved_meanwhile().pk
        before = Order.objects.values(*STATE_COLUMNS).get(pk=pk)

        row = Order.objects.only("tracking").get(pk=pk)
        row.tracking = "t1"
        row.save()

        assert columns(row) == before
        assert Order.objects.get(pk=pk).tracking == "t1"

    def test_a_row_with_a_deferred_state_leaves_the_state_columns(self):
        row = Order.objects.create()
        deferred = Order.objects.defer("state", "state_next").get(pk=row.pk)
        row.state_transition("shipped")
        before = columns(row)

        deferred.save()

        assert columns(row) == before
        assert deferred.state == "shipped"

    @pytest.mark.skipif(not hasattr(models, "FETCH_PEERS"), reason="Django 6.1 brought it")
    def test_deferred_values_that_are_loaded_for_all_rows_at_once(self):
        rows = [moved_meanwhile() for _ in range(2)]
        first, second = Order.objects.only("tracking").fetch_mode(models.FETCH_PEERS)
        before = [columns(row) for row in rows]

        assert (first.state, second.__dict__["state"]) == ("shipped", "shipped")
        for row in (first, second):
            row.save()

        assert [columns(row) for row in rows] == before

    def test_assigning_a_deferred_state_is_a_move_from_wherever_it_is(self):
        pk = moved_meanwhile().pk

        row = Order.objects.defer("state").get(pk=pk)
        row.state = "failed"
        row.save()

        assert columns(row)["state"] == "failed"

    def test_assigning_equal_values_writes_nothing(self):
        row = moved_meanwhile()
        before = columns(row)

        for name in STATE_COLUMNS:
            setattr(row, name, getattr(row, name))
        row.state = OrderStates.new
        row.save()

        assert columns(row) == before

    def test_assigning_back_writes_nothing(self):
        row = moved_meanwhile()

        row.state = "paid"
        row.state = "new"
        row.save()

        assert columns(row)["state"] == "shipped"

    def test_full_clean_leaves_the_state_columns(self):
        row = moved_meanwhile()
        before = columns(row)

        row.full_clean(exclude=["tracking"])
        row.save()

        assert columns(row) == before

    def test_a_model_form_has_and_saves_no_state_column(self):
        form_class = modelform_factory(Order, fields="__all__")
        row = moved_meanwhile()
        before = columns(row)

        form = form_class({"payment_id": "p2", "tracking": "t1"}, instance=row)
        assert sorted(form.fields) == ["payment_id", "tracking"]
        form.save()

        assert columns(row) == before
        assert Order.objects.get(pk=row.pk).payment_id == "p2"

    def test_model_form_cannot_name_the_state(self):
        with pytest.raises(FieldError, match="non-editable"):
            modelform_factory(Order, fields=["state"])

    def test_asave_leaves_the_state_columns(self):
        row = moved_meanwhile()
        before = columns(row)

        async_to_sync(row.asave)(update_fields=["tracking"])

        assert columns(row) == before

    def test_a_pickled_row_leaves_the_state_columns(self):
        row = moved_meanwhile()
        before = columns(row)

        again = pickle.loads(pickle.dumps(row))
        again.save()

        assert columns(row) == before
        assert again.state == "new"

    def test_a_pickled_assignment_is_remembered(self):
        row = moved_meanwhile()
        row.state = "paid"

        with pytest.raises(StaleState):
            pickle.loads(pickle.dumps(row)).save()

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
    def test_copied_instances_leave_the_state_columns(self, copied):
        row = moved_meanwhile()
        before = columns(row)

        copied(row).save()

        assert columns(row) == before

    def test_a_locked_row_can_be_moved(self):
        pk = moved_meanwhile().pk

        with transaction.atomic():
            row = Order.objects.select_for_update().get(pk=pk)
            row.state = "failed"
            row.save()

        assert columns(row)["state"] == "failed"

    def test_update_or_create_leaves_the_state_columns(self):
        row = moved_meanwhile()
        before = columns(row)

        again, created = Order.objects.update_or_create(
            payment_id="p1", defaults={"tracking": "t1"}
        )

        assert (again.pk, created) == (row.pk, False)
        assert columns(row) == before

    def test_update_or_create_with_a_state(self):
        row = moved_meanwhile()

        Order.objects.update_or_create(payment_id="p1", defaults={"state": "failed"})

        assert columns(row)["state"] == "failed"

    def test_update_or_create_creates_a_row_in_the_given_state(self):
        row, created = Order.objects.update_or_create(
            payment_id="p9", defaults={"state": "shipped"}
        )

        assert created
        assert (row.state, row.state_next) == ("shipped", None)

    def test_get_or_create_leaves_the_state(self):
        row = moved_meanwhile()

        again, created = Order.objects.get_or_create(payment_id="p1")

        assert (again.pk, created, again.state) == (row.pk, False, "shipped")
        assert Order.objects.get_or_create(payment_id="p9")[0].state == "new"

    def test_bulk_update_leaves_the_state_columns(self):
        row = moved_meanwhile()
        before = columns(row)

        row.tracking = "t1"
        Order.objects.bulk_update([row], ["tracking"])

        assert columns(row) == before

    @pytest.mark.parametrize("name", [*STATE_COLUMNS, "state_history"])
    def test_bulk_update_of_a_state_column_is_refused(self, name):
        row = Trouble.objects.create()

        with pytest.raises(ValueError) as caught:
            Trouble.objects.bulk_update([row], ["mode", name])

        assert str(caught.value) == (
            f"bulk_update() cannot write {name}: it knows no fence. Use "
            f"Trouble.state_transition_queryset(queryset, state) instead."
        )

    @pytest.mark.parametrize("name", ["state_lease", "state_claim"])
    def test_a_claim_that_was_assigned_is_refused(self, name):
        row = claimed_meanwhile()
        before = columns(row)

        row.tracking = "t1"
        setattr(row, name, 7 if name == "state_claim" else row.state_changed)
        with pytest.raises(ValueError) as caught:
            row.save()

        assert str(caught.value) == (
            f"{name} of testapp.Order {row.pk} was assigned, which only a claim writes; nothing "
            f"was saved. Leave it out of what is imported or copied."
        )
        assert columns(row) == before
        assert Order.objects.get(pk=row.pk).tracking == ""

    def test_saving_a_new_instance_with_the_key_of_a_row(self):
        row = moved_meanwhile()
        before = columns(row)

        again = Order(pk=row.pk, payment_id="p3")
        again.save()

        assert columns(row) == before
        assert Order.objects.get(pk=row.pk).payment_id == "p3"

    def test_a_new_instance_over_a_row_shows_that_rows_state(self):
        row = moved_meanwhile()

        again = Order(pk=row.pk, payment_id="p3")
        again.save()

        assert again.state == "shipped"

    def test_a_forced_update_leaves_the_state_columns(self):
        row = moved_meanwhile()
        before = columns(row)

        row.save(force_update=True)

        assert columns(row) == before

    def test_rows_with_other_keys_keep_their_state(self):
        text = TextKey.objects.create(code="a")
        rows = [text, RelatedKey.objects.create(text=text), UUIDKey.objects.create()]
        for row in rows:
            type(row).objects.get(pk=row.pk).state_transition("done")

            row.save()

            assert type(row).objects.get(pk=row.pk).state == "done"


class TestReloading:
    def test_takes_its_arguments_in_djangos_order(self):
        """As libraries pass them that have a ``refresh_from_db()`` of their own."""
        row = Order.objects.create()
        Order.objects.filter(pk=row.pk).update(payment_id="p1")

        row.refresh_from_db("default", ["payment_id"], Order.objects.all())

        assert row.payment_id == "p1"

    def test_refresh_from_db_forgets_an_assignment(self):
        row = moved_meanwhile()
        row.state = "paid"

        row.refresh_from_db()
        row.save()

        assert row.state == "shipped"
        assert columns(row)["state"] == "shipped"

    def test_refreshing_other_fields_keeps_it(self):
        row = moved_meanwhile()
        row.state = "paid"

        row.refresh_from_db(fields=["tracking"])

        assert row.state == "paid"
        with pytest.raises(StaleState):
            row.save()

    def test_after_a_refresh_the_row_can_be_moved(self):
        row = moved_meanwhile()

        row.refresh_from_db()
        row.state = "failed"
        row.save()

        assert columns(row)["state"] == "failed"

    def test_arefresh_from_db_loads_the_state(self):
        row = moved_meanwhile()

        async_to_sync(row.arefresh_from_db)()

        assert row.state == "shipped"


class TestMovesByHand:
    def test_the_row_enters_the_state_as_by_a_transition(self):
        row = claimed_meanwhile()
        Order.objects.filter(pk=row.pk).update(state_failures=3)
        before = columns(row)

        row.state = OrderStates.paid
        row.save()

        after = columns(row)
        assert after["state"] == "paid"
        assert after["state_changed"] > before["state_changed"]
        assert after["state_next"] - after["state_changed"] < timedelta(seconds=1)
        assert after["state_lease"] == before["state_lease"]
        assert after["state_claim"] == -1 - before["state_claim"], "it is revoked, not free"
        assert after["state_failures"] == 0

    def test_the_instance_follows(self):
        row = Order.objects.create()

        row.state = OrderStates.shipped
        row.tracking = "t1"
        row.save()

        assert {name: getattr(row, name) for name in STATE_COLUMNS} == columns(row)
        assert row.state_next is None
        assert Order.objects.get(pk=row.pk).tracking == "t1"

    def test_moves_follow_one_another(self):
        row = Order.objects.create()

        for state in ("paid", "shipped", "failed", "new"):
            row.state = state
            row.save()

        assert columns(row)["state"] == "new"

    def test_a_row_that_has_moved_meanwhile_is_stale(self):
        row = moved_meanwhile()
        before = columns(row)

        row.state = "failed"
        row.tracking = "t1"
        with pytest.raises(StaleState) as caught:
            row.save()

        assert str(caught.value) == (
            f"testapp.Order {row.pk} is no longer in the state 'new' it was loaded in; nothing was "
            f"saved. Load it again with refresh_from_db() and decide anew."
        )
        assert columns(row) == before
        assert Order.objects.get(pk=row.pk).tracking == ""

    def test_advice_can_be_followed_inside_a_transaction(self):
        row = moved_meanwhile()

        with transaction.atomic():
            row.state = "paid"
            with pytest.raises(StaleState):
                row.save()
            row.refresh_from_db()
            row.state = "failed"
            row.save()

        assert columns(row)["state"] == "failed"

    def test_update_fields_with_the_state_moves_and_saves_no_other_field(self):
        row = Order.objects.create()

        row.state = "paid"
        row.tracking = "unsaved"
        row.save(update_fields=["state"])

        saved = Order.objects.get(pk=row.pk)
        assert (saved.state, saved.tracking) == ("paid", "")

    def test_a_due_time_set_beside_the_state_is_kept(self):
        row = Order.objects.create()
        later = clock.now() + timedelta(hours=1)

        row.state = "paid"
        row.state_next = later
        row.save()

        assert columns(row)["state_next"] == later

    def test_other_engine_columns_can_be_set(self):
        row = Order.objects.create()
        long_ago = clock.now() - timedelta(days=1)

        row.state_changed = long_ago
        row.state_next = None
        row.save()

        assert columns(row)["state_changed"] == long_ago
        assert columns(row)["state_next"] is None
        assert columns(row)["state"] == "new"

    def test_other_columns_of_a_row_that_moved(self):
        row = moved_meanwhile()

        row.state_next = clock.now()

        with pytest.raises(StaleState):
            row.save()

    def test_a_failing_save_moves_nothing(self):
        row = Order.objects.create()

        row.state = "paid"
        row.payment_id = None  # type: ignore[assignment]
        with pytest.raises(DatabaseError), transaction.atomic():
            row.save()

        assert columns(row)["state"] == "new"

    def test_a_typo_raises_at_once(self):
        row = Order.objects.create()

        with pytest.raises(UnknownState) as caught:
            row.state = "payed"

        assert str(caught.value) == (
            "'payed' is not a state of OrderStates; its states are: new, paid, shipped, failed."
        )
        assert row.state == "new"

    def test_another_graphs_state_raises_at_once(self):
        row = Order.objects.create()

        with pytest.raises(UnknownState):
            row.state = TroubleStates.new

    def test_a_typo_in_a_new_row_raises_when_it_is_saved(self):
        with pytest.raises(UnknownState, match="'payed' is not a state of OrderStates"):
            Order.objects.create(state="payed")
        with pytest.raises(UnknownState):
            Order.objects.bulk_create([Order(state="payed")])


class TestUnknownStates:
    """A row may be in a state that another version of the code knows."""

    @pytest.fixture
    def row(self):
        pk = Order.objects.create().pk
        models.QuerySet(Order).filter(pk=pk).update(state=models.Value("refunded"))
        return Order.objects.get(pk=pk)

    def test_a_row_in_one_loads(self, row):
        assert row.state == "refunded"

    def test_a_row_in_one_refreshes(self, row):
        other = Order.objects.get(pk=row.pk)
        other.refresh_from_db()

        assert other.state == "refunded"

    def test_refreshes_from_a_known_one(self):
        row = Order.objects.create()
        models.QuerySet(Order).filter(pk=row.pk).update(state=models.Value("refunded"))

        row.refresh_from_db()

        assert row.state == "refunded"

    def test_a_deferred_one_loads(self, row):
        assert Order.objects.only("pk").get(pk=row.pk).state == "refunded"

    def test_a_row_in_one_saves_its_other_fields(self, row):
        row.tracking = "t1"
        row.save()

        assert columns(row)["state"] == "refunded"

    def test_a_row_moved_into_one_meanwhile_stays_there(self):
        row = Order.objects.create()
        models.QuerySet(Order).filter(pk=row.pk).update(state=models.Value("refunded"))

        row.save()

        assert columns(row)["state"] == "refunded"

    def test_overwritten_by_a_new_instance(self, row):
        Order(pk=row.pk, tracking="t1").save()

        assert columns(row)["state"] == "refunded"

    def test_a_row_in_one_passes_full_clean(self, row):
        row.full_clean()

    def test_can_be_moved(self, row):
        row.state = "paid"
        row.save()

        assert columns(row)["state"] == "paid"


class TestCopies:
    @pytest.fixture
    def claimed(self):
        Trouble.objects.create(state_failures=2)
        (row,) = Trouble.state_get_ready(1, 30)
        Trouble.objects.filter(pk=row.pk).update(
            state_history=[["new", "2026-01-01T00:00:00+00:00"], ["patient", "2026-01-02"]],
            state="patient",
        )
        return Trouble.objects.get(pk=row.pk)

    def test_a_copy_that_is_adding_starts_afresh(self, claimed):
        original = claimed.pk

        claimed.pk = None
        claimed._state.adding = True
        claimed.save()

        self.assert_fresh(claimed, original)

    def test_a_copy_without_a_key_starts_afresh(self, claimed):
        original = claimed.pk

        claimed.pk = None
        claimed.save()

        self.assert_fresh(claimed, original)

    def test_a_copy_created_in_bulk_starts_afresh(self, claimed):
        original = claimed.pk

        claimed.pk = None
        Trouble.objects.bulk_create([claimed])

        self.assert_fresh(Trouble.objects.exclude(pk=original).get(), original)

    @staticmethod
    def assert_fresh(copied, original):
        source = Trouble.objects.get(pk=original)
        copied = Trouble.objects.get(pk=copied.pk)
        assert copied.pk != original
        assert copied.state == "patient"
        assert (copied.state_lease, copied.state_claim, copied.state_failures) == (None, None, 0)
        assert copied.state_changed > source.state_changed
        assert [state for state, _ in copied.state_history] == ["patient"]
        assert copied.state_next >= copied.state_changed
        assert source.state_claim is not None

    def test_the_copy_can_be_moved_and_saved(self, claimed):
        claimed.pk = None
        claimed.save()

        claimed.state = "done"
        claimed.save()

        assert Trouble.objects.get(pk=claimed.pk).state == "done"


@pytest.mark.django_db(databases=["default", "other"])
class TestOtherDatabases:
    def test_save_to_another_database_copies_the_row(self):
        row = Order.objects.create(payment_id="p1", state="paid")
        Order.state_get_ready(1, 30)
        row = Order.objects.get(pk=row.pk)

        row.save(using="other")

        there = columns(row, "other")
        assert there["state"] == "paid"
        assert there["state_claim"] is there["state_lease"] is None
        assert columns(row)["state_claim"] is not None

    def test_save_to_another_database_does_not_move_the_row_there(self):
        row = Order.objects.create(payment_id="p1")
        there = Order(pk=row.pk, state="shipped")
        there.save(using="other")
        before = columns(row, "other")

        row.payment_id = "p2"
        row.save(using="other")

        assert columns(row, "other") == before
        assert Order.objects.using("other").get(pk=row.pk).payment_id == "p2"

    def test_a_row_of_the_other_database_is_saved_there(self):
        row = Order.objects.using("other").create(payment_id="p1")

        row.state = "paid"
        row.save()

        assert columns(row, "other")["state"] == "paid"
        assert not Order.objects.exists()

    def test_a_move_there_is_stale_too(self):
        row = Order.objects.using("other").create(payment_id="p1")
        Order.objects.using("other").get(pk=row.pk).state_transition("shipped")

        row.state = "paid"

        with pytest.raises(StaleState):
            row.save()


class TestDeletedRows:
    @pytest.fixture
    def gone(self):
        row = Order.objects.create()
        Order.objects.filter(pk=row.pk).delete()
        return row

    @pytest.mark.parametrize("options", [{}, {"update_fields": ["tracking"]}])
    def test_a_save_raises_and_does_not_bring_it_back(self, gone, options):
        with pytest.raises(DatabaseError, match="did not affect any rows"), transaction.atomic():
            gone.save(**options)

        assert not Order.objects.exists()

    @pytest.mark.parametrize("options", [{}, {"update_fields": ["state"]}])
    def test_moving_one_raises(self, gone, options):
        gone.state = "paid"

        with pytest.raises(DatabaseError, match="did not affect any rows"), transaction.atomic():
            gone.save(**options)

        assert not Order.objects.exists()

    def test_inserting_it_again_on_purpose_works(self, gone):
        gone.save(force_insert=True)

        assert columns(gone)["state"] == "new"


class TestFixtures:
    def test_a_dumped_row_comes_back_with_its_state_columns(self, tmp_path):
        row = moved_meanwhile()
        before = columns(row)
        dump = io.StringIO()
        call_command("dumpdata", "testapp.Order", stdout=dump)
        file = tmp_path / "orders.json"
        file.write_text(dump.getvalue())
        Order.objects.all().delete()

        call_command("loaddata", str(file), verbosity=0)

        # JSON keeps milliseconds only.
        assert before.pop("state_changed") - columns(row).pop("state_changed") < timedelta(
            0, 0, 1000
        )
        assert columns(row).items() >= before.items()

    def test_a_dump_has_no_claim(self):
        row = Order.objects.create()
        lease = clock.now() + timedelta(hours=1)
        Order.objects.filter(pk=row.pk).update(state_claim=4, state_lease=lease)
        dump = serializers.serialize("json", Order.objects.all())
        row.delete()

        for each in serializers.deserialize("json", dump):
            each.save()

        assert Order.objects.due().count() == 1
        assert "state_claim" not in dump

    def test_loaded_over_a_row_it_says_what_the_row_is(self, tmp_path):
        row = Order.objects.create(payment_id="p1")
        file = tmp_path / "orders.json"
        file.write_text(serializers.serialize("json", [row]))
        row.state_transition("shipped")

        call_command("loaddata", str(file), verbosity=0)

        assert columns(row)["state"] == "new"

    def test_a_fixture_without_state_columns(self, tmp_path):
        file = tmp_path / "orders.json"
        fields = {"payment_id": "p1"}
        file.write_text(json.dumps([{"model": "testapp.order", "pk": 5, "fields": fields}]))

        call_command("loaddata", str(file), verbosity=0)

        row = Order.objects.get(pk=5)
        assert (row.state, row.state_failures, row.state_claim) == ("new", 0, None)
        assert Order.objects.due().get() == row
