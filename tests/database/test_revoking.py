"""A row that is moved while it is held: its claim is revoked, and its holder can tell."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from django_fsmworker.store import store_for
from django_fsmworker.store.fence import taken_over
from testapp.models import Order
from tests.database.rows import LEASE, PAST, claim, claimed, fence, fetch, put

pytestmark = pytest.mark.django_db


def by_state_transition(row: Any) -> None:
    Order.objects.get(pk=row.pk).state_transition("paid")


def by_saving(row: Any) -> None:
    found = Order.objects.get(pk=row.pk)
    found.state = "paid"
    found.save()


def by_queryset(row: Any) -> None:
    Order.state_transition_queryset(Order.objects.filter(pk=row.pk), "paid")


MOVES = pytest.mark.parametrize("move", [by_state_transition, by_saving, by_queryset])


@MOVES
@pytest.mark.parametrize("suspect", [False, True])
def test_a_held_row_is_in_its_new_state_and_still_leased(move: Any, suspect: bool) -> None:
    row = claimed(Order)
    if suspect:
        put(row, state_lease=PAST)
        (row,) = claim(Order)
    assert taken_over(row.state_claim) is suspect

    move(row)

    moved = fetch(row)
    assert (moved.state, moved.state_lease) == ("paid", row.state_lease)
    assert moved.state_claim == -1 - row.state_claim < 0
    assert claim(Order) == []
    store = store_for("default")
    assert store.still_held(Order, [fence(row)]) == set()
    assert store.renew(Order, [fence(row)], LEASE) == set()
    assert store.hand_back(Order, [fence(row)]) == set()
    assert store.revoked(Order, [fence(row)]) == {row.pk}


@MOVES
@pytest.mark.parametrize("columns", [{"state_lease": PAST}, {"state_lease": None}])
def test_a_row_that_nobody_holds_any_more_is_simply_written(move: Any, columns: Any) -> None:
    row = claimed(Order)
    put(row, **columns)

    move(row)

    moved = fetch(row)
    assert (moved.state, moved.state_lease, moved.state_claim) == ("paid", None, None)
    assert [each.pk for each in claim(Order)] == [row.pk]


@MOVES
def test_a_row_that_is_moved_twice_is_its_holders_still(move: Any) -> None:
    row = claimed(Order)
    by_queryset(row)

    move(row)

    assert store_for("default").revoked(Order, [fence(row)]) == {row.pk}


def test_the_lease_of_a_revoked_claim_is_renewed_and_its_due_time_stays() -> None:
    row = claimed(Order)
    by_queryset(row)
    before = fetch(row)

    assert store_for("default").extend(Order, [fence(row)], 3 * LEASE) == {row.pk}

    after = fetch(row)
    assert after.state_lease - before.state_lease > timedelta(seconds=LEASE)
    assert (after.state, after.state_next) == ("paid", before.state_next)
    assert after.state_claim == before.state_claim


def test_a_released_row_is_claimed_where_it_is_now() -> None:
    row = claimed(Order)
    by_queryset(row)
    before = fetch(row)
    store = store_for("default")

    assert store.release(Order, [fence(row)]) == {row.pk}
    assert store.release(Order, [fence(row)]) == set()

    after = fetch(row)
    assert (after.state, after.state_next) == ("paid", before.state_next)
    (again,) = claim(Order)
    assert (again.state, again.state_failures) == ("paid", 0)
    assert not taken_over(again.state_claim)


def test_one_row_that_is_not_revoked_is_not_released() -> None:
    row = claimed(Order)

    assert store_for("default").release(Order, [fence(row)]) == set()

    assert fetch(row).state_claim == row.state_claim


def test_the_lapse_of_a_revoked_claim_is_not_blamed_on_the_new_state() -> None:
    row = claimed(Order)
    by_queryset(row)
    put(row, state_lease=PAST)

    (again,) = claim(Order)

    assert (again.state, again.state_failures) == ("paid", 0)
    assert not taken_over(again.state_claim)


def test_a_row_that_a_plain_update_moved_can_be_revoked_by_its_holder() -> None:
    row = claimed(Order)
    store_for("default").renew(Order, [fence(row)], LEASE)
    Order.objects.filter(pk=row.pk).update(state="paid")

    assert store_for("default").revoke(Order, [fence(row)]) == {row.pk}
    assert claim(Order) == []
    assert store_for("default").release(Order, [fence(row)]) == {row.pk}

    assert [each.state for each in claim(Order)] == ["paid"]


class TestClaimedByHand:
    def test_its_holder_moves_the_row_and_frees_it(self) -> None:
        Order.objects.create()
        (row,) = Order.state_get_ready(1, 30)

        row.state_transition("paid")

        assert (fetch(row).state_lease, fetch(row).state_claim) == (None, None)
        assert [each.pk for each in claim(Order)] == [row.pk]

    def test_its_holder_frees_no_claim_of_another(self) -> None:
        Order.objects.create()
        (row,) = Order.state_get_ready(1, 30)
        put(row, state_lease=PAST)
        (other,) = claim(Order)

        row.state_transition("paid")

        assert fetch(row).state_claim == -1 - other.state_claim

    def test_a_row_that_is_moved_under_its_check_is_free_when_that_has_ended(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = []

        def check(cls: Any, row: Any) -> None:
            by_queryset(row)
            seen.append(fetch(row).state_claim)

        monkeypatch.setattr(Order.state_graph, "check_new", classmethod(check))
        Order.objects.create()
        (row,) = Order.state_get_ready(1, 30)
        token = row.state_claim or 0

        assert row.state_transition_check() is None

        assert seen == [-1 - token]
        assert (row.state, row.state_lease, row.state_claim) == ("paid", None, None)
