"""When a row is first due, and how the indexes are called."""

from __future__ import annotations

import pytest

from django_fsmworker.graph.durations import earliest
from django_fsmworker.models.indexes import index_name
from testapp.models import BasicStates, DeliveryStates, OrderStates, TroubleStates


@pytest.mark.parametrize(
    ("state", "due"),
    [
        (OrderStates.paid, 0),
        (OrderStates.new, 0),
        (BasicStates.pending_delete, 5),
        (BasicStates.done, None),
        (BasicStates.timed_out, None),
        (TroubleStates.waiting, 30),
        (DeliveryStates.pending, 0),
        (DeliveryStates.held, 600),
        (DeliveryStates.signing, None),
    ],
)
def test_first_due(state, due):
    assert state.first_due == due


@pytest.mark.parametrize(
    ("durations", "shortest"),
    [((None, None), None), ((None, 5.0), 5.0), ((7.0, 5.0), 5.0), ((0.0, None), 0.0)],
)
def test_earliest(durations, shortest):
    assert earliest(*durations) == shortest


class TestIndexName:
    @pytest.mark.parametrize(
        "table",
        ["a", "shop_order", "x" * 100, "_hidden", "7days", '"schema"."table"', "größe", "_"],
    )
    @pytest.mark.parametrize("purpose", ["due", "expiry"])
    def test_is_a_name_that_every_database_takes(self, table, purpose):
        name = index_name(table, purpose)

        assert len(name) <= 30
        assert name.endswith(f"_{purpose}")
        assert name[0] not in "_0123456789"
        assert all(letter.isalnum() or letter == "_" for letter in name)

    def test_differs_between_tables_that_begin_alike(self):
        names = {index_name(f"{'x' * 40}{number}", "due") for number in range(100)}

        assert len(names) == 100

    def test_differs_between_states(self):
        names = {index_name("shop_order", "swept", state) for state in ("", "new", "paid")}

        assert len(names) == 3

    def test_stays(self):
        assert index_name("testapp_order", "due") == index_name("testapp_order", "due")
