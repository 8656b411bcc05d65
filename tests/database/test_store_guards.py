"""Which guard is true of rows in hand: every kind of condition, and the order of several."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import Count, Exists, F, OuterRef, Q, Subquery, Value
from django.db.models.functions import Abs
from django.db.models.lookups import GreaterThan

from django_fsmworker.models.functions import DatabaseNow
from django_fsmworker.store import store_for
from django_fsmworker.store.guards import fault_of
from tests.app.models import Delivery, Endpoint, Receipt
from tests.database.rows import put, statements
from tests.database.sweeps import PENDING, guard, sweep

pytestmark = pytest.mark.django_db

MANY_RECEIPTS = Subquery(
    Receipt.objects.filter(delivery=OuterRef("pk"))
    .values("delivery")
    .annotate(number=Count("pk"))
    .values("number")
)


@pytest.fixture
def rows():
    """By what is special about them, each held."""
    open_, paused = (Endpoint.objects.create(paused=paused) for paused in (False, True))
    special: dict[str, dict[str, Any]] = {
        "plain": {"endpoint": open_, "amount": 1},
        "large": {"endpoint": open_, "amount": 5000},
        "paused": {"endpoint": paused, "amount": -2},
        "signed": {"endpoint": open_, "amount": 3},
        "unsigned": {"endpoint": open_, "amount": 4},
        "homeless": {"endpoint": None, "amount": 6},
    }
    found = {
        name: Delivery.objects.create(state="held", **fields) for name, fields in special.items()
    }
    for signed in (True, True, False):
        Receipt.objects.create(delivery=found["signed"], signed=signed)
    Receipt.objects.create(delivery=found["unsigned"], signed=False)
    return found


CONDITIONS = {
    "a column": (Q(amount__gt=1000), {"large"}),
    "all": (Q(), {"plain", "large", "paused", "signed", "unsigned", "homeless"}),
    "none": (Q(pk__in=[]), set()),
    "a related row": (Q(endpoint__paused=True), {"paused"}),
    "NULL is not false": (Q(endpoint__paused=False), {"plain", "large", "signed", "unsigned"}),
    "but negated it is": (~Q(endpoint__paused=False), {"paused", "homeless"}),
    "no related row": (Q(endpoint=None), {"homeless"}),
    "one of many": (Q(receipts__signed=True), {"signed"}),
    "not one of many": (
        ~Q(receipts__signed=True),
        {"plain", "large", "paused", "unsigned", "homeless"},
    ),
    "many at all": (Q(receipts__isnull=False), {"signed", "unsigned"}),
    "two columns": (Q(amount__gt=F("endpoint__pk") + 1000), {"large"}),
    "the history": (Q(state_history__0__0="held", amount=1), {"plain"}),
    "the age": (Q(state_changed__lt=DatabaseNow() - timedelta(hours=1)), set()),
    "Exists": (
        Exists(Receipt.objects.filter(delivery=OuterRef("pk"), signed=False)),
        {"signed", "unsigned"},
    ),
    "not Exists": (
        ~Exists(Endpoint.objects.filter(pk=OuterRef("endpoint"), paused=False)),
        {"paused", "homeless"},
    ),
    "Exists and a column": (
        Exists(Receipt.objects.filter(delivery=OuterRef("pk"))) & Q(amount=4),
        {"unsigned"},
    ),
    "a number of many": (GreaterThan(MANY_RECEIPTS, 2), {"signed"}),
    "a lookup": (GreaterThan(Abs("amount"), 4), {"large", "homeless"}),
    "either": (Q(amount=1) | Q(receipts__signed=True), {"plain", "signed"}),
    "100 %": (Q(mode__contains="100 %"), set()),
}


@pytest.mark.parametrize(("when", "true"), CONDITIONS.values(), ids=CONDITIONS)
class TestConditions:
    def test_a_guard_is_true_of_just_those_rows(self, rows, when, true):
        keys = [row.pk for row in rows.values()]

        found = store_for("default").first_true(Delivery, [guard(when)], keys)

        assert {name for name, row in rows.items() if row.pk in found} == true

    def test_a_guard_beside_another_is_true_of_just_those_rows(self, rows, when, true):
        keys = [row.pk for row in rows.values()]
        never, asked = guard(Q(amount=99)), guard(when)

        found = store_for("default").first_true(Delivery, [never, asked], keys)

        assert {name for name, row in rows.items() if row.pk in found} == true
        assert set(found.values()) <= {asked}

    def test_a_sweep_moves_just_those_rows(self, rows, when, true):
        moved = sweep(when)

        assert {name for name, row in rows.items() if row.pk in moved} == true
        assert set(Delivery.objects.filter(state="gone")) == {rows[name] for name in true}

    def test_checked_without_asking_the_database(self, rows, when, true):
        with statements() as sent:
            fault = fault_of(guard(when), Delivery, "default")

        assert (fault, sent) == (None, [])


class TestFirstTrue:
    def test_the_first_of_several(self, rows):
        first, second, third = (
            guard(Q(receipts__signed=True), target=PENDING),
            guard(Q(amount__gt=1)),
            guard(Q(endpoint__paused=False)),
        )

        found = store_for("default").first_true(
            Delivery, [first, second, third], [row.pk for row in rows.values()]
        )

        assert found == {
            rows["signed"].pk: first,
            rows["large"].pk: second,
            rows["unsigned"].pk: second,
            rows["homeless"].pk: second,
            rows["plain"].pk: third,
        }

    @pytest.mark.parametrize("guards", [1, 2, 3])
    def test_is_one_statement(self, rows, guards, vendor):
        edges = [guard(Q(amount=number)) for number in range(guards)]

        with statements() as sent:
            store_for("default").first_true(Delivery, edges, [row.pk for row in rows.values()])

        assert len(sent) == (guards if vendor == "mysql" else 1)

    def test_only_rows_of_that_state(self, rows):
        put(rows["plain"], state="gone")

        found = store_for("default").first_true(
            Delivery, [guard(Q())], [rows["plain"].pk, rows["large"].pk]
        )

        assert set(found) == {rows["large"].pk}

    def test_only_the_rows_that_are_asked_about(self, rows):
        found = store_for("default").first_true(
            Delivery, [guard(Q()), guard(Q())], [rows["plain"].pk]
        )

        assert set(found) == {rows["plain"].pk}

    @pytest.mark.postgresql
    @pytest.mark.mysql
    def test_a_guard_is_not_asked_after_one_that_is_true(self, rows):
        """The second would divide by zero."""
        Delivery.objects.filter(pk=rows["plain"].pk).update(amount=0)
        zero, share = guard(Q(amount=0)), guard(GreaterThan(Value(10) / F("amount"), 3))

        found = store_for("default").first_true(
            Delivery, [zero, share], [row.pk for row in rows.values()]
        )

        assert found[rows["plain"].pk] is zero


class TestFaults:
    @pytest.mark.parametrize(
        ("when", "fault"),
        [
            (Q(amount="many"), "Field 'amount' expected a number but got 'many'."),
            (
                Q(amount__between=5),
                "Unsupported lookup 'between' for BigIntegerField or join on the field not "
                "permitted.",
            ),
            (
                GreaterThan(Count("receipts"), 2),
                "It looks at many rows together, by an aggregate or a window.",
            ),
        ],
    )
    def test_a_fault_is_said(self, when, fault):
        assert fault_of(guard(when), Delivery, "default") == fault

    def test_an_unknown_field_is_said(self):
        fault = fault_of(guard(Q(endpoint__closed=True)), Delivery, "default")

        assert fault is not None
        assert fault.startswith("Unsupported lookup 'closed' for ForeignKey or join on the field")
