"""``State(select_related=…)``: a claim's rows have their relations, in one query for all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.checks import Error
from django.db import connection, models
from django.test.utils import isolate_apps

from django_fsmworker import checks
from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph import State, StateGraph
from django_fsmworker.models import StateField, StatorModel
from django_fsmworker.store import store_for
from django_fsmworker.store.failures import Failure, record
from testapp.models import Order
from tests.app.models import Noop
from tests.database.rows import LEASE, claim, moved, statements

MODULE = "testapp.models"

pytestmark = pytest.mark.django_db(transaction=True)


class ParcelStates(StateGraph):
    new = State(select_related=["buyer__town", "depot"], force_initial=True)
    plain = State()
    done = State()

    new.transitions_to(plain)
    plain.transitions_to(new, done)

    @classmethod
    def check_new(cls, row: Any) -> Any:
        return cls.plain

    @classmethod
    def check_plain(cls, row: Any) -> Any:
        return cls.done


@pytest.fixture
def parcels() -> Iterator[Any]:
    with isolate_apps("testapp"):

        class Town(models.Model):
            __module__ = MODULE

        class Buyer(models.Model):
            __module__ = MODULE
            town = models.ForeignKey(Town, models.CASCADE)

        class Parcel(StatorModel):
            __module__ = MODULE
            state = StateField(ParcelStates)
            buyer = models.ForeignKey(Buyer, models.CASCADE)
            depot = models.ForeignKey(Town, models.CASCADE, null=True)

        made = [Town, Buyer, Parcel]
        with connection.schema_editor() as editor:
            for model in made:
                editor.create_model(model)
        try:
            yield Parcel
        finally:
            with connection.schema_editor() as editor:
                for model in reversed(made):
                    editor.delete_model(model)


def create(parcels: Any, number: int, **fields: Any) -> None:
    buyer = parcels._meta.get_field("buyer").related_model
    town = buyer._meta.get_field("town").related_model
    for _ in range(number):
        at = town.objects.create()
        parcels.objects.create(buyer=buyer.objects.create(town=at), **{"depot": at, **fields})


@pytest.mark.parametrize("number", [1, 20])
def test_a_claim_asks_once_for_each_relation(parcels: Any, number: int) -> None:
    create(parcels, number)

    with statements() as sent:
        rows = claim(parcels)
        asked = len([sql for sql, _ in sent if "testapp_buyer" in sql or "testapp_town" in sql])
        sent.clear()
        towns = [row.buyer.town.pk == row.depot.pk for row in rows]

    assert (len(rows), asked) == (number, 3)
    assert towns == [True] * number
    assert sent == []


def test_rows_without_the_relation(parcels: Any) -> None:
    create(parcels, 2, depot=None)

    assert [row.depot for row in claim(parcels)] == [None, None]


def test_other_states_ask_for_nothing(parcels: Any) -> None:
    create(parcels, 2, state="plain")

    with statements() as sent:
        assert len(claim(parcels)) == 2

    assert not [sql for sql, _ in sent if "testapp_buyer" in sql or "testapp_town" in sql]


def test_rows_that_run_on_have_those_of_their_new_state(parcels: Any) -> None:
    create(parcels, 2, state="plain")
    rows = claim(parcels)

    rows = store_for("default").advance(parcels, [moved(row, "new") for row in rows], LEASE)

    with statements() as sent:
        assert all(row.buyer.town.pk for row in rows)
    assert sent == []


class TestDeclared:
    def test_as_a_text(self) -> None:
        with pytest.raises(GraphError) as caught:
            type("Tried", (StateGraph,), {"new": State(select_related="buyer")})

        assert str(caught.value) == (
            "Tried.new: select_related='buyer' is a str; give a list, such as ['buyer']."
        )

    @pytest.mark.parametrize("given", [True, [5], ["buyer", None]])
    def test_as_no_list_of_names(self, given: Any) -> None:
        with pytest.raises(GraphError) as caught:
            type("Tried", (StateGraph,), {"new": State(select_related=given)})

        assert str(caught.value) == (
            f"Tried.new: select_related={given!r} is no list of names of foreign keys; give one, "
            f"such as ['buyer']."
        )

    def test_without_a_check(self) -> None:
        with pytest.raises(GraphError) as caught:
            type("Tried", (StateGraph,), {"new": State(select_related=["buyer"])})

        assert str(caught.value) == (
            "Tried.new: select_related is for a check, and it has none; remove select_related."
        )

    def test_e020_of_no_relation(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with isolate_apps("testapp") as isolated:

            class Parcel(StatorModel):
                __module__ = MODULE
                state = StateField(ParcelStates)
                buyer = models.ForeignKey(Noop, models.CASCADE)
                depot = models.CharField(max_length=9)

            monkeypatch.setattr("django_fsmworker.checks.models.apps", isolated)
            found = checks.check_models(None)

        assert found == [
            Error(
                "The state 'new' of testapp.Parcel has select_related='buyer__town', which cannot "
                "be loaded: tests.Noop has no foreign key 'town'.",
                hint="Name foreign keys and one-to-one fields, joined by '__'.",
                obj=Parcel,
                id="fsmworker.E020",
            ),
            Error(
                "The state 'new' of testapp.Parcel has select_related='depot', which cannot be "
                "loaded: testapp.Parcel has no foreign key 'depot'.",
                hint="Name foreign keys and one-to-one fields, joined by '__'.",
                obj=Parcel,
                id="fsmworker.E020",
            ),
        ]


class TestFailure:
    def test_of_a_row_is_its_record(self) -> None:
        row, other = Order.objects.create(), Order.objects.create()
        record("default", Order, [(row.pk, "new", Failure("RuntimeError", "no"))], "worker")

        assert row.failure is not None
        assert (row.failure.row, row.failure.message) == (str(row.pk), "no")
        assert other.failure is None

    def test_of_a_row_that_is_not_saved(self) -> None:
        assert Order().failure is None
