"""Keys that have due rows, permits, tokens and pauses, as each database keeps them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from django_fsmworker import testing
from django_fsmworker.graph import Rate
from django_fsmworker.models import Bucket, Pause, Permit
from django_fsmworker.models.limits import WHOLE_LANE
from django_fsmworker.store import Lane, buckets, pauses, permits, store_for
from tests.app.models import Parcel
from tests.database.rows import FUTURE, LEASE, PAST, put

pytestmark = pytest.mark.django_db


@pytest.fixture
def store():
    return store_for("default")


def due(carrier=None, state="keyed", since=PAST, **fields):
    row = Parcel.objects.create(state=state, carrier=carrier, **fields)
    put(row, state_next=since)
    return row


class TestDueKeys:
    def keys(self, store, after=None, most=10):
        return store.due_keys(Parcel, "keyed", "carrier", after, most)

    def test_are_found_once_each_in_their_order(self, store):
        for carrier in (3, 1, 3, 2, 1):
            due(carrier)

        assert self.keys(store) == [(1, True), (2, True), (3, True)]

    def test_only_so_many_are_looked_at(self, store):
        for carrier in range(5):
            due(carrier)

        assert self.keys(store, most=2) == [(0, True), (1, True)]

    def test_go_on_after_a_value(self, store):
        for carrier in range(5):
            due(carrier)

        assert self.keys(store, after=2) == [(3, True), (4, True)]
        assert self.keys(store, after=4) == []

    def test_a_key_without_a_due_row_is_no_due_key(self, store):
        due(1, since=FUTURE)
        due(2)

        assert self.keys(store) == [(1, False), (2, True)]

    def test_rows_of_other_states_and_without_a_due_time_do_not_count(self, store):
        due(1, state="fair")
        put(due(2), state_next=None)

        assert not any(is_due for _, is_due in self.keys(store))

    def test_null_is_a_key_and_comes_first(self, store):
        due(None)
        due(1)

        assert self.keys(store) == [(None, True), (1, True)]
        assert self.keys(store, after=0) == [(1, True)]

    def test_null_without_a_due_row_is_left_out(self, store):
        due(None, since=FUTURE)

        assert self.keys(store) == []


class TestKeyedClaim:
    def test_rows_without_a_key_are_claimed_by_it(self, store):
        row, _ = due(None), due(1)

        assert store.claim(Parcel, [Lane("keyed", 10, key=("carrier", None))], LEASE) == [row]

    def test_each_key_has_a_limit_of_its_own(self, store):
        for carrier in (1, 1, 1, 2, 2):
            due(carrier)

        lanes = [Lane("keyed", 2, key=("carrier", 1)), Lane("keyed", 1, key=("carrier", 2))]
        found = store.claim(Parcel, lanes, LEASE)

        assert sorted(row.carrier for row in found) == [1, 1, 2]


class TestPermits:
    def take(self, store, wanted, token=1, limit=3, state="limited", lease=LEASE):
        return store.permits.take(Parcel, state, limit, wanted, token, lease)

    def numbers(self, taken):
        return {key: len(some) for key, some in taken.permits.items()}

    def test_there_are_as_many_as_the_limit(self, store):
        assert self.numbers(self.take(store, {WHOLE_LANE: 2})) == {WHOLE_LANE: 2}
        assert self.numbers(self.take(store, {WHOLE_LANE: 2}, token=2)) == {WHOLE_LANE: 1}
        assert self.numbers(self.take(store, {WHOLE_LANE: 2}, token=3)) == {WHOLE_LANE: 0}

    def test_each_key_has_its_own(self, store):
        first = self.take(store, {1: 2, None: 3})
        second = self.take(store, {1: 2, 2: 1}, token=2)

        assert self.numbers(first) == {1: 2, None: 3}
        assert self.numbers(second) == {1: 1, 2: 1}

    def test_each_state_has_its_own(self, store):
        self.take(store, {WHOLE_LANE: 3})

        assert self.numbers(self.take(store, {WHOLE_LANE: 3}, state="rated")) == {WHOLE_LANE: 3}

    def test_given_back_they_are_free(self, store):
        taken = self.take(store, {WHOLE_LANE: 3}).permits[WHOLE_LANE]
        store.permits.give_back(1, taken[:2])

        assert self.numbers(self.take(store, {WHOLE_LANE: 3}, token=2)) == {WHOLE_LANE: 2}

    def test_nobody_gives_back_what_is_another_s(self, store):
        taken = self.take(store, {WHOLE_LANE: 3}).permits[WHOLE_LANE]
        store.permits.give_back(2, taken)

        assert store.permits.still_held(1, taken) == set(taken)

    def test_lapse_on_the_database_s_clock(self, store):
        taken = self.take(store, {WHOLE_LANE: 3}).permits[WHOLE_LANE]
        with testing.travel(seconds=LEASE + 1):
            assert self.numbers(self.take(store, {WHOLE_LANE: 2}, token=2)) == {WHOLE_LANE: 2}
            assert len(store.permits.renew(1, taken, LEASE)) == 1

    def test_renewed_they_do_not_lapse(self, store):
        taken = self.take(store, {WHOLE_LANE: 3}).permits[WHOLE_LANE]
        with testing.travel(seconds=LEASE - 1):
            assert store.permits.renew(1, taken, LEASE) == set(taken)
        with testing.travel(seconds=LEASE + 1):
            assert self.numbers(self.take(store, {WHOLE_LANE: 2}, token=2)) == {WHOLE_LANE: 0}

    def test_a_smaller_limit_counts_at_once(self, store):
        store.permits.give_back(1, self.take(store, {WHOLE_LANE: 3}).permits[WHOLE_LANE])

        assert self.numbers(self.take(store, {WHOLE_LANE: 3}, limit=1)) == {WHOLE_LANE: 1}

    def test_free_ones_are_taken_before_new_ones_are_made(self, store):
        store.permits.give_back(1, self.take(store, {1: 2}).permits[1])

        assert self.numbers(self.take(store, {1: 3}, limit=9)) == {1: 3}
        assert sorted(Permit.objects.values_list("slot", flat=True)) == [1, 2, 3]

    def test_what_was_purged_in_between_is_made_again(self, store):
        self.take(store, {1: 3})
        Permit.objects.filter(slot=2).delete()

        assert self.numbers(self.take(store, {1: 3}, token=2)) == {1: 1}
        assert Permit.objects.get(token=2).slot == 2

    def test_all_are_the_holder_s_whatever_they_were_before(self, store):
        store.permits.give_back(1, self.take(store, {1: 1, 2: 1}).permits[1])

        taken = self.take(store, {1: 2, 2: 2}, token=2)

        assert self.numbers(taken) == {1: 2, 2: 2}
        of_both = [pk for some in taken.permits.values() for pk in some]
        assert store.permits.still_held(2, of_both) == set(of_both)
        assert not taken.contended

    def test_are_counted_and_purged(self, store):
        self.take(store, {1: 2})
        label = Parcel._meta.label
        assert permits.in_use("default", label, "limited", 1) == 2
        assert permits.in_use("default", label, "limited", 2) == 0

        with testing.travel(seconds=LEASE + 61):
            permits.purge("default", 60)

        assert not Permit.objects.exists()


class TestBuckets:
    # One token in 100 s: none comes back while a test takes its time.
    rate = Rate(10, 1000, burst=3)

    def take(self, store, wanted):
        return buckets.take(store, Parcel, "rated", self.rate, wanted)

    def test_a_burst_then_the_rate(self, store):
        assert self.take(store, {WHOLE_LANE: 5}).granted == {WHOLE_LANE: 3}
        tokens = self.take(store, {WHOLE_LANE: 5})
        assert tokens.granted[WHOLE_LANE] == 0
        assert 0 < tokens.wait[WHOLE_LANE] <= 100

        with testing.travel(seconds=200):
            assert self.take(store, {WHOLE_LANE: 5}).granted == {WHOLE_LANE: 2}

    def test_quiet_time_gives_no_more_than_the_burst(self, store):
        self.take(store, {WHOLE_LANE: 3})

        with testing.travel(timedelta(hours=1)):
            assert self.take(store, {WHOLE_LANE: 9}).granted == {WHOLE_LANE: 3}

    def test_each_key_has_its_own(self, store):
        assert self.take(store, {1: 3}).granted == {1: 3}
        assert self.take(store, {1: 1, None: 1, 2: 9}).granted == {1: 0, None: 1, 2: 3}

    def test_tokens_given_back_are_there(self, store):
        self.take(store, {1: 3})
        buckets.give_back(store, Parcel, "rated", self.rate, {1: 2})

        assert self.take(store, {1: 3}).granted == {1: 2}

    def test_can_be_asked_about_without_taking_any(self, store):
        label = Parcel._meta.label
        assert buckets.available("default", label, "rated", self.rate, 1) == (3, 0.0)
        self.take(store, {1: 3})

        there, wait = buckets.available("default", label, "rated", self.rate, 1)
        assert there == 0
        assert 0 < wait <= 100

    def test_full_ones_are_purged(self, store):
        self.take(store, {1: 3})
        buckets.purge("default", 60)
        assert Bucket.objects.exists()

        with testing.travel(seconds=400):
            buckets.purge("default", 60)
        assert not Bucket.objects.exists()


class TestPauses:
    label = Parcel._meta.label

    def test_one_is_in_force_until_it_is_lifted(self):
        pk = pauses.add("default", self.label, "keyed", 7, None, by="ada", reason="leak")

        (found,) = pauses.current("default", [self.label])
        assert (found.state, found.key, found.left, found.by, found.reason) == (
            "keyed",
            "7",
            None,
            "ada",
            "leak",
        )
        assert pauses.lift_one("default", pk, "bob") is True
        assert pauses.current("default") == []
        assert pauses.lift_one("default", pk, "bob") is False
        assert Pause.objects.get().lifted_by == "bob"

    def test_one_is_over_by_itself_on_the_database_s_clock(self):
        pauses.add("default", self.label, "", WHOLE_LANE, 60)

        (found,) = pauses.current("default", [self.label])
        assert found.left is not None
        assert 30 < found.left <= 60
        with testing.travel(seconds=61):
            assert pauses.current("default", [self.label]) == []

    def test_of_every_model_holds_for_each(self):
        pauses.add("default", "", "", WHOLE_LANE, None)

        assert len(pauses.current("default", ["tests.Basic"])) == 1

    def test_of_other_models_does_not_matter(self):
        pauses.add("default", "tests.Other", "", WHOLE_LANE, None)

        assert pauses.current("default", [self.label]) == []

    def test_what_checks_ask_for_is_one_and_never_shortened(self):
        for seconds in (10, 60, 5):
            pauses.add("default", self.label, "keyed", 7, seconds, kind="check")

        (found,) = pauses.current("default")
        assert found.left is not None
        assert 30 < found.left <= 60
        assert Pause.objects.count() == 1

    def test_the_newest_word_of_people_counts(self):
        pauses.add("default", self.label, "keyed", 7, None)
        pauses.add("default", self.label, "keyed", 7, 50)

        (found,) = pauses.current("default")
        assert found.left is not None
        assert 20 < found.left <= 50

    def test_one_row_is_tried_after_a_breaker_s(self):
        pk = pauses.add("default", self.label, "broken", WHOLE_LANE, 30, kind="breaker")
        assert not pauses.try_one("default", pk, LEASE)

        with testing.travel(seconds=31):
            (found,) = pauses.current("default")
            assert found.on_trial
            assert pauses.try_one("default", pk, LEASE)
            assert not pauses.try_one("default", pk, LEASE)
            pauses.begin_anew("default", pk, 30)
            assert not pauses.current("default")[0].on_trial
        with testing.travel(seconds=62):
            assert pauses.try_one("default", pk, LEASE)
            pauses.end_trial("default", pk)
            assert pauses.try_one("default", pk, LEASE)

    def test_old_ones_are_purged(self):
        lifted = pauses.add("default", self.label, "", WHOLE_LANE, None)
        pauses.lift_one("default", lifted, "")
        pauses.add("default", self.label, "keyed", WHOLE_LANE, 5)
        kept = pauses.add("default", self.label, "fair", WHOLE_LANE, None)

        with testing.travel(timedelta(days=8)):
            pauses.purge("default", timedelta(days=7))

        assert Pause.objects.get().pk == kept
