"""What is done to rows that are held: renewed, handed back, asked for."""

from __future__ import annotations

import pytest

from django_fsmworker import clock
from django_fsmworker.store import store_for
from django_fsmworker.store.fence import taken_over
from testapp.models import Order
from tests.app.models import Hidden, RelatedKey, TextKey, UUIDKey
from tests.database.rows import PAST, claim, claimed, fence, fetch, put, timed

pytestmark = pytest.mark.django_db


@pytest.fixture
def store():
    return store_for("default")


def suspect():
    """A claimed row whose lease had lapsed once."""
    row = claimed(Order)
    put(row, state_lease=PAST)
    (again,) = claim(Order)
    assert taken_over(again.state_claim)
    return again


def from_now(moment):
    return (moment - clock.now()).total_seconds()


class TestRenew:
    def test_lease_and_due_time_move(self, store):
        row = claimed(Order)

        with timed() as span:
            assert store.renew(Order, [fence(row)], 90.0) == {row.pk}

        saved = fetch(row)
        assert span.leads_to(saved.state_lease, 90)
        assert saved.state_next == saved.state_lease
        assert saved.state_claim == row.state_claim

    def test_a_lapsed_lease_that_nobody_took(self, store):
        row = claimed(Order)
        put(row, state_lease=PAST)

        assert store.renew(Order, [fence(row)], 30) == {row.pk}
        assert claim(Order) == []

    def test_not_what_somebody_took(self, store):
        row = claimed(Order)
        put(row, state_lease=PAST)
        (taken,) = claim(Order)

        assert store.renew(Order, [fence(row)], 90) == set()
        assert fetch(row).state_lease == taken.state_lease

    def test_not_what_was_moved_or_deleted(self, store):
        moved, deleted, kept = (claimed(Order) for _ in range(3))
        fences = [fence(row) for row in (moved, deleted, kept)]
        moved.state_transition("paid")
        deleted.delete()

        assert store.renew(Order, fences, 30) == {kept.pk}

    def test_a_renewed_row_lapses_and_is_rescued(self, store):
        row = claimed(Order)
        store.renew(Order, [fence(row)], 30)
        put(row, state_lease=PAST, state_next=PAST)

        assert claim(Order) == [row]

    def test_without_holds_nothing_is_renewed(self, store):
        assert store.renew(Order, [], 30) == set()


class TestHandBack:
    def test_free_and_due_at_once(self, store):
        row = claimed(Order)

        assert store.hand_back(Order, [fence(row)]) == {row.pk}

        saved = fetch(row)
        assert (saved.state_lease, saved.state_claim, saved.state_failures) == (None, None, 0)
        assert saved.state_next == row.state_next
        (again,) = claim(Order)
        assert not taken_over(again.state_claim)

    def test_after_a_renewal_too(self, store):
        row = claimed(Order)
        store.renew(Order, [fence(row)], 900)

        store.hand_back(Order, [fence(row)])

        assert from_now(fetch(row).state_next) <= 0
        assert claim(Order) == [row]

    def test_earlier_failures_are_kept(self, store):
        row = claimed(Order, state_failures=2)

        store.hand_back(Order, [fence(row)])

        assert fetch(row).state_failures == 2

    def test_a_suspect_stays_a_suspect_and_nothing_is_counted(self, store):
        row = suspect()
        assert row.state_failures == 1

        for _ in range(3):
            store.hand_back(Order, [fence(row)])
            saved = fetch(row)
            assert (saved.state_claim, saved.state_failures) == (None, 0)
            assert saved.state_lease is not None
            (row,) = claim(Order)
            assert taken_over(row.state_claim)
            assert row.state_failures == 1

    def test_a_suspect_with_earlier_failures(self, store):
        row = suspect()
        put(row, state_failures=4)

        store.hand_back(Order, [fence(row)])

        assert fetch(row).state_failures == 3

    def test_not_what_somebody_took(self, store):
        row = claimed(Order)
        put(row, state_lease=PAST)
        claim(Order)

        assert store.hand_back(Order, [fence(row)]) == set()
        assert fetch(row).state_claim is not None

    def test_suspects_and_others_go_back_together(self, store):
        doubtful = suspect()
        plain = claimed(Order)

        assert store.hand_back(Order, [fence(plain), fence(doubtful)]) == {plain.pk, doubtful.pk}

        again = {row.pk: taken_over(row.state_claim) for row in claim(Order)}
        assert again == {plain.pk: False, doubtful.pk: True}

    def test_without_holds_nothing_is_handed_back(self, store):
        assert store.hand_back(Order, []) == set()


class TestStillHeld:
    def test_rows_with_their_token_are_still_held(self, store):
        rows = [claimed(Order) for _ in range(4)]
        fences = [fence(row) for row in rows]
        put(rows[1], state_claim=4)
        rows[2].state_transition("paid")
        rows[3].delete()

        assert store.still_held(Order, fences) == {rows[0].pk}

    def test_whatever_the_lease(self, store):
        row = claimed(Order)
        put(row, state_lease=PAST)

        assert store.still_held(Order, [fence(row)]) == {row.pk}

    def test_not_once_the_row_is_in_another_state(self, store):
        row = claimed(Order)
        held = fence(row)
        put(row, state="paid")

        assert store.still_held(Order, [held]) == set()

    def test_without_holds_nothing_is_held(self, store):
        assert store.still_held(Order, []) == set()


@pytest.mark.parametrize("verb", ["renew", "hand_back", "still_held"])
class TestKeys:
    def held(self, store, verb, model, rows):
        arguments = [30.0] if verb == "renew" else []
        return getattr(store, verb)(model, [fence(row) for row in rows], *arguments)

    @pytest.mark.parametrize("model", [UUIDKey, TextKey, Hidden])
    def test_keys_of_every_type_are_found(self, store, verb, model):
        for code in ("it's", "100 %"):
            model.objects.create(**({"code": code} if model is TextKey else {}))
        rows = claim(model)

        assert self.held(store, verb, model, rows) == {row.pk for row in rows}

    def test_related_keys_are_found(self, store, verb):
        RelatedKey.objects.create(text=TextKey.objects.create(code="a"))
        rows = claim(RelatedKey)

        assert self.held(store, verb, RelatedKey, rows) == {"a"}


def test_held_rows_leave_the_head_of_their_lane(store):
    """A claim does not have to walk over long-running rows to those that may be due."""
    row = claimed(Order, state_next=clock.now() + PAST)

    store.renew(Order, [fence(row)], 30)

    assert fetch(row).state_next > clock.now()
