"""LoneClaimer: which rows, in which order, how many, and what they carry then."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection, models
from django.test.utils import isolate_apps

from django_fsmworker import clock
from django_fsmworker.models import StateField, StatorModel
from django_fsmworker.store import Lane, store_for
from django_fsmworker.store.fence import taken_over
from django_fsmworker.store.tables import table_for
from django_fsmworker.testing import travel
from testapp.models import Order
from tests.app.models import (
    BasicModel,
    Chain,
    Hidden,
    Noop,
    NoopStates,
    RelatedKey,
    TextKey,
    Trouble,
    UUIDKey,
)
from tests.database.rows import FUTURE, LEASE, PAST, claim, fetch, lanes, pks, put

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


@pytest.fixture
def store():
    return store_for("default")


def due(model=Order, since=MINUTE, **fields):
    """A row that has been due for ``since``."""
    return model.objects.create(state_next=clock.now() - since, **fields)


class TestWhichRows:
    def test_rows_that_are_due_and_not_leased_are_claimed(self):
        row = due()
        due(state_lease=clock.now() + FUTURE, state_claim=4)
        Order.objects.create(state_next=clock.now() + FUTURE)
        put(Order.objects.create(), state_next=None)

        assert claim(Order) == [row]

    def test_an_empty_table_gives_none(self):
        assert claim(Order) == []

    def test_a_row_is_claimed_once(self):
        row = due()

        assert claim(Order) == [row]
        assert claim(Order) == []

    def test_a_row_whose_lease_has_lapsed_is_claimed(self):
        row = due(state_lease=clock.now() + PAST, state_claim=4)

        assert claim(Order) == [row]

    def test_only_rows_with_the_lane_s_key_are_claimed(self, store):
        raising, _ = due(Trouble, mode="raise"), due(Trouble, mode="")

        found = store.claim(Trouble, [Lane("new", 10, key=("mode", "raise"))], LEASE)
        assert found == [raising]

    def test_each_lane_of_a_claim_may_have_a_key_of_its_own(self, store):
        one, _ = due(Trouble, mode="raise", since=2 * MINUTE), due(Trouble, mode="raise")
        other = due(Trouble, mode="exit", since=3 * MINUTE)

        lanes = [Lane("new", 1, key=("mode", mode)) for mode in ("raise", "exit")]
        assert store.claim(Trouble, lanes, LEASE) == [other, one]

    def test_a_look_ahead_is_at_rows_with_the_lane_s_key(self, store):
        due(Trouble, mode="raise", since=-MINUTE)

        here, elsewhere = [[Lane("new", 1, key=("mode", each))] for each in ("raise", "exit")]
        assert 50 < store.peek({Trouble: here})[Trouble, "new"] <= 60
        assert store.peek({Trouble: elsewhere}) == {}

    def test_only_rows_of_the_lanes_are_claimed(self, store):
        new, paid = due(), due(state="paid")

        assert store.claim(Order, [Lane("paid", 10)], LEASE) == [paid]
        assert store.claim(Order, [Lane("shipped", 10)], LEASE) == []
        assert store.claim(Order, [Lane("new", 10)], LEASE) == [new]

    def test_manual_rows_with_a_stray_due_time_are_claimed(self):
        row = due(BasicModel, state="done")

        assert claim(BasicModel) == [row]

    def test_rows_that_a_manager_hides_are_claimed(self):
        row = Hidden.objects.create(visible=False)

        assert pks(claim(Hidden)) == [row.pk]

    def test_only_rows_of_this_database_are_claimed(self):
        row = due()

        assert claim(Order) == [row]

    @pytest.mark.django_db(databases=["default", "other"])
    def test_rows_of_the_other_database_are_claimed_there(self):
        due()
        there = Order.objects.using("other").create()

        (row,) = claim(Order, using="other")

        assert row.pk == there.pk
        assert row._state.db == "other"
        assert Order.objects.using("other").running().count() == 1
        assert Order.objects.running().count() == 0

    def test_only_rows_due_by_the_given_moment_are_claimed(self):
        early, late = due(since=2 * MINUTE), due(since=MINUTE / 2)

        assert claim(Order, until=clock.now() - MINUTE) == [early]
        assert claim(Order, until=clock.now() + FUTURE) == [late]

    def test_a_moment_in_the_future_makes_nothing_due(self):
        Order.objects.create(state_next=clock.now() + MINUTE)

        assert claim(Order, until=clock.now() + FUTURE) == []

    def test_rows_are_due_by_the_travelled_time(self):
        row = Order.objects.create(state_next=clock.now() + MINUTE)

        with travel(2 * MINUTE):
            assert claim(Order) == [row]

    def test_leases_lapse_by_travelling(self):
        row = due()
        claim(Order)

        with travel(seconds=LEASE + 1):
            (again,) = claim(Order)

        assert again == row
        assert taken_over(again.state_claim)


class TestOrderAndLimits:
    def test_oldest_due_first(self):
        rows = [due(since=minutes * MINUTE) for minutes in (1, 3, 2)]

        assert claim(Order) == [rows[1], rows[2], rows[0]]

    def test_oldest_due_first_across_lanes(self):
        states = ["new", "paid", "new", "paid"]
        rows = [due(since=minutes * MINUTE, state=state) for minutes, state in enumerate(states, 1)]

        assert claim(Order) == rows[::-1]

    def test_limit_of_a_lane_takes_its_oldest(self, store):
        new = [due(since=minutes * MINUTE) for minutes in (1, 2, 3)]
        paid = [due(since=minutes * MINUTE, state="paid") for minutes in (1, 2, 3)]

        found = store.claim(Order, [Lane("new", 1), Lane("paid", 2)], LEASE)

        assert set(found) == {new[2], paid[2], paid[1]}

    def test_held_rows_do_not_count_against_the_limit(self, store):
        for _ in range(5):
            due(since=2 * MINUTE, state_lease=clock.now() + FUTURE, state_claim=4)
        row = due(since=MINUTE)

        assert store.claim(Order, [Lane("new", 1)], LEASE) == [row]

    def test_from_the_low_water_mark_on(self, store):
        below, above = due(since=3 * MINUTE), due(since=MINUTE)
        mark = clock.now() - 2 * MINUTE

        assert store.claim(Order, [Lane("new", 10, mark)], LEASE) == [above]
        assert store.claim(Order, [Lane("new", 10)], LEASE) == [below]

    def test_a_row_due_at_the_very_mark(self, store):
        row = due()

        assert store.claim(Order, [Lane("new", 10, row.state_next)], LEASE) == [row]

    def test_each_lane_has_a_mark_of_its_own(self, store):
        new, paid = due(since=3 * MINUTE), due(since=3 * MINUTE, state="paid")
        mark = clock.now() - 2 * MINUTE

        found = store.claim(Order, [Lane("new", 10, mark), Lane("paid", 10)], LEASE)

        assert found == [paid]
        assert fetch(new).state_claim is None


class TestWhatTheyCarry:
    def test_claimed_rows_have_a_lease_and_a_token(self, store):
        due()

        (row,) = store.claim(Order, lanes(Order), 45.0)

        assert abs(row.state_lease - clock.now() - timedelta(seconds=45)) < timedelta(seconds=5)
        assert row.state_claim >= 0
        assert not taken_over(row.state_claim)
        assert row.state_failures == 0
        saved = fetch(row)
        assert (saved.state_lease, saved.state_claim) == (row.state_lease, row.state_claim)

    def test_due_time_stays(self):
        row = due()

        (found,) = claim(Order)

        assert found.state_next == row.state_next

    def test_another_token_each_time(self):
        tokens = set()
        for _ in range(20):
            due()
            tokens |= {row.state_claim for row in claim(Order)}

        assert len(tokens) == 20

    def test_claimed_rows_have_every_column(self):
        row = due(payment_id="p1", tracking="t1")

        (found,) = claim(Order)

        assert found.__dict__.keys() >= {field.attname for field in Order._meta.concrete_fields}
        assert (found.payment_id, found.tracking) == ("p1", "t1")
        assert found.state_changed == row.state_changed
        assert type(found.state) is str
        assert not found._state.adding

    def test_they_can_be_saved_and_stay_claimed(self):
        due()
        (row,) = claim(Order)

        row.tracking = "t1"
        row.save()

        saved = fetch(row)
        assert (saved.tracking, saved.state_claim) == ("t1", row.state_claim)

    @pytest.mark.parametrize("model", [UUIDKey, TextKey, Hidden, Noop])
    def test_keys_keep_value_and_type(self, model):
        row = model.objects.create(**({"code": "it's 100 %"} if model is TextKey else {}))

        (found,) = claim(model)

        assert (found.pk, type(found.pk)) == (row.pk, type(row.pk))

    def test_a_related_key_comes_back_as_its_value(self):
        row = RelatedKey.objects.create(text=TextKey.objects.create(code="a"))

        (found,) = claim(RelatedKey)

        assert (found.pk, found.text_id, found.state) == (row.pk, "a", "new")

    def test_a_history_comes_back_as_a_list(self):
        row = Trouble.objects.create()

        (found,) = claim(Trouble)

        assert found.state_history == row.state_history
        assert isinstance(found.state_history, list)


class TestTakingOver:
    def test_counts_one_failure_and_marks_the_token(self):
        row = due(state_lease=clock.now() + PAST, state_claim=4, state_failures=2)

        (found,) = claim(Order)

        assert taken_over(found.state_claim)
        assert found.state_failures == 3
        assert fetch(row).state_failures == 3

    def test_beside_rows_that_were_free(self):
        lapsed = due(state_lease=clock.now() + PAST, state_claim=4, since=2 * MINUTE)
        free = due()

        found = claim(Order)

        assert found == [lapsed, free]
        assert [taken_over(row.state_claim) for row in found] == [True, False]
        assert [row.state_failures for row in found] == [1, 0]

    def test_the_count_saturates(self):
        due(state_lease=clock.now() + PAST, state_claim=4, state_failures=32766)

        for count in (32767, 32767):
            (row,) = claim(Order)
            assert row.state_failures == count
            put(row, state_lease=PAST)

    def test_every_takeover_counts(self):
        row = due()
        for failures in range(4):
            (found,) = claim(Order)
            assert (found.state_failures, taken_over(found.state_claim)) == (failures, failures > 0)
            put(row, state_lease=PAST)

    def test_what_carries_no_token_any_more_but_a_lapsed_lease(self):
        """So rows look that were handed back as suspects."""
        due(state_lease=clock.now() + PAST, state_claim=None)

        (row,) = claim(Order)

        assert taken_over(row.state_claim)


class Shouted(models.CharField):  # type: ignore[type-arg]
    """A field of a user's, with a value of its own making."""

    def from_db_value(self, value, expression, connection):
        return value and value.upper()


@pytest.mark.django_db(transaction=True)
def test_every_kind_of_column_is_converted():
    with isolate_apps("testapp"):

        class Shape(StatorModel):
            __module__ = "testapp.models"
            state = StateField(NoopStates)
            price = models.DecimalField(max_digits=8, decimal_places=2)
            wait = models.DurationField()
            day = models.DateField()
            flag = models.BooleanField()
            data = models.JSONField()
            word = Shouted(max_length=20, db_column="a word")
            blob = models.BinaryField()

    with connection.schema_editor() as editor:
        editor.create_model(Shape)
    try:
        row = Shape.objects.create(
            price=Decimal("1.50"),
            wait=MINUTE,
            day=clock.now().date(),
            flag=True,
            data={"a": [1, None]},
            word="quiet",
            blob=b"\x00\xff",
        )

        (found,) = claim(Shape)

        wanted = Shape.objects.get(pk=row.pk)
        for field in Shape._meta.concrete_fields:
            value = getattr(found, field.attname)
            if field.name == "blob":
                assert bytes(value) == b"\x00\xff"
            else:
                assert value == getattr(wanted, field.attname)
                assert type(value) is type(getattr(wanted, field.attname))
        assert found.word == "QUIET"
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(Shape)


class TestUnreadableRows:
    @pytest.fixture
    def unreadable(self, monkeypatch):
        """Rows of Order whose payment is called ``broken`` cannot be loaded whole."""

        def refuse(value, expression, connection):
            if value == "broken":
                raise ValueError("broken beyond repair")
            return value

        field = Order._meta.get_field("payment_id")
        monkeypatch.setattr(field, "from_db_value", refuse, raising=False)
        table_for.cache_clear()  # which knows how the columns were read
        yield
        table_for.cache_clear()

    def test_spoil_no_claim(self, unreadable, caplog):
        whole = due(since=2 * MINUTE)
        broken = due(payment_id="broken")

        first, second = claim(Order)

        assert (first.pk, second.pk) == (whole.pk, broken.pk)
        assert first.payment_id == ""
        assert second.get_deferred_fields() == {"payment_id", "tracking"}
        assert second.state_claim is not None
        assert caplog.messages == [
            f"testapp.Order {broken.pk} cannot be loaded (broken beyond repair)."
        ]


class TestPeek:
    def test_seconds_until_the_first_free_row_of_each_lane(self, store):
        due(since=2 * MINUTE)
        due(since=MINUTE)
        Order.objects.create(state="paid", state_next=clock.now() + MINUTE)

        found = store.peek({Order: lanes(Order)})

        assert set(found) == {(Order, "new"), (Order, "paid")}
        assert found[Order, "new"] == pytest.approx(-120, abs=5)
        assert found[Order, "paid"] == pytest.approx(60, abs=5)

    def test_held_rows_are_left_out(self, store):
        due(state_lease=clock.now() + FUTURE, state_claim=4)
        due(state="paid", state_lease=clock.now() + PAST, state_claim=4)

        assert set(store.peek({Order: lanes(Order)})) == {(Order, "paid")}

    def test_without_due_rows_it_returns_no_lane(self, store):
        Order.objects.create(state="shipped")

        assert store.peek({Order: lanes(Order)}) == {}

    def test_rows_before_the_mark_are_left_out(self, store):
        due(since=3 * MINUTE)
        mark = clock.now() - 2 * MINUTE

        assert store.peek({Order: [Lane("new", 1, mark)]}) == {}

    def test_several_models_with_keys_of_any_type(self, store):
        due(since=2 * MINUTE)
        due(Chain, since=MINUTE)
        due(UUIDKey, since=3 * MINUTE)
        RelatedKey.objects.create(text=TextKey.objects.create(code="a"))

        found = store.peek({model: lanes(model) for model in (Order, Chain, UUIDKey, RelatedKey)})

        assert {key: round(seconds / 60) for key, seconds in found.items()} == {
            (Order, "new"): -2,
            (Chain, "first"): -1,
            (UUIDKey, "new"): -3,
            (RelatedKey, "new"): 0,
        }

    def test_it_claims_no_row(self, store):
        row = due()

        store.peek({Order: lanes(Order)})

        assert fetch(row).state_claim is None

    def test_it_counts_by_the_travelled_time(self, store):
        due(since=timedelta(0))

        with travel(seconds=60):
            assert store.peek({Order: lanes(Order)})[Order, "new"] == pytest.approx(-60, abs=5)


class TestClock:
    def test_now_is_the_database_s_time(self, store):
        assert abs(store.now() - clock.now()) < timedelta(seconds=60)
        assert store.now().tzinfo is not None

    def test_goes_on_inside_a_transaction(self, store):
        assert store.now() < store.now()

    def test_the_store_s_clock_travels(self, store):
        with travel(seconds=-3600):
            then = store.now()

        assert store.now() - then > timedelta(minutes=59)
