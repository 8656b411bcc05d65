"""Deleting rows whose time is over: by state and age, through the ORM, each on its own account."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models.signals import post_delete

from django_fsmworker.models import FailureRecord
from django_fsmworker.store import store_for
from django_fsmworker.store.expiry import expire
from django_fsmworker.store.failures import Failure, record
from django_fsmworker.testing import travel
from testapp.models import Order
from tests.app.models import Attachment, Expiring, ExpiringStates, Lock
from tests.database.rows import FUTURE, PAST, fetch, put

pytestmark = pytest.mark.django_db

# The one has outlived its ten seconds, the other will not while a test takes its time.
OLD, YOUNG = -timedelta(seconds=11), -timedelta(seconds=2)


@pytest.fixture
def store():
    return store_for("default")


def gone(age=OLD, **fields):
    row = Expiring.objects.create(state="gone", **fields)
    put(row, state_changed=age)
    return row


def run(store, limit=100, skip=()):
    return expire(store, Expiring, ExpiringStates.gone, limit, skip, "worker")


def left():
    return set(Expiring.objects.all())


class TestWhichRows:
    def test_only_rows_old_enough_are_deleted(self, store):
        old, young = gone(), gone(YOUNG)

        expired = run(store)

        assert (expired.deleted, expired.refused) == ([old.pk], [])
        assert left() == {young}

    def test_only_rows_in_the_state_are_deleted(self, store):
        kept = Expiring.objects.create(state="kept")
        put(kept, state_changed=PAST)
        gone()

        run(store)

        assert left() == {kept}

    def test_held_rows_survive(self, store):
        held, lapsed = gone(), gone()
        put(held, state_lease=FUTURE, state_claim=4)
        put(lapsed, state_lease=PAST, state_claim=4)

        assert run(store).deleted == [lapsed.pk]

    def test_revived_rows_survive(self, store):
        row = gone()
        row.state_transition("kept")

        assert run(store).deleted == []

    def test_entering_the_state_again_starts_its_time_again(self, store):
        row = gone()
        row.state_transition("gone")

        assert run(store).deleted == []

    def test_oldest_first_up_to_the_limit(self, store):
        rows = [gone(-timedelta(minutes=minutes)) for minutes in (1, 3, 2)]

        assert set(run(store, limit=2).deleted) == {rows[1].pk, rows[2].pk}

    def test_rows_to_skip_are_left(self, store):
        first, second = gone(), gone()

        assert run(store, skip=[first.pk]).deleted == [second.pk]

    def test_an_empty_table_expires_nothing(self, store):
        expired = run(store)

        assert (expired.deleted, expired.refused) == ([], [])

    def test_rows_age_by_the_travelled_time(self, store):
        gone(timedelta(0))

        with travel(seconds=11):
            assert len(run(store).deleted) == 1

    @pytest.mark.django_db(databases=["default", "other"])
    def test_only_rows_of_its_own_database_are_deleted(self):
        gone()
        there = Expiring.objects.using("other").create(state="gone")
        put(there, using="other", state_changed=OLD)

        assert run(store_for("other")).deleted == [there.pk]
        assert Expiring.objects.count() == 1


class TestThroughTheORM:
    def test_what_cascades_goes_along(self, store):
        row, young = gone(), gone(YOUNG)
        Attachment.objects.create(row=row)
        kept = Attachment.objects.create(row=young)

        run(store)

        assert list(Attachment.objects.all()) == [kept]

    def test_signals_are_sent(self, store):
        told = []

        def listen(instance, **kwargs):
            told.append(instance.pk)

        post_delete.connect(listen, sender=Expiring)
        try:
            row = gone()
            run(store)
        finally:
            post_delete.disconnect(listen, sender=Expiring)

        assert told == [row.pk]

    def test_failure_records_go_along(self, store):
        row, other = gone(), gone(YOUNG)
        failure = Failure("RuntimeError", "no")
        record("default", Expiring, [(each.pk, "gone", failure) for each in (row, other)], "w")

        run(store)

        assert FailureRecord.objects.get().row == str(other.pk)


class TestRefusals:
    def refused_beside_others(self, store, refused):
        others = [gone() for _ in range(3)]

        expired = run(store)

        assert set(expired.deleted) == {row.pk for row in others}
        assert expired.refused == [refused.pk]
        assert left() == {refused}
        return FailureRecord.objects.get()

    def test_a_protected_row_is_left_and_recorded(self, store):
        row = gone()
        Lock.objects.create(row=row)

        entry = self.refused_beside_others(store, row)

        assert entry.error == "django.db.models.deletion.ProtectedError"
        assert (entry.row, entry.state, entry.count) == (str(row.pk), "gone", 1)
        assert entry.worker == "worker"

    def test_a_signal_that_raises(self, store):
        entry = self.refused_beside_others(store, gone(stubborn=True))

        assert (entry.error, entry.message) == ("RuntimeError", "it does not want to go")

    def test_several_refused_rows_do_not_keep_the_others(self, store):
        refused = [gone(stubborn=True), gone()]
        Lock.objects.create(row=refused[1])
        gone()

        expired = run(store)

        assert set(expired.refused) == {row.pk for row in refused}
        assert len(expired.deleted) == 1
        assert FailureRecord.objects.count() == 2

    def test_they_are_told_of_again_each_time(self, store):
        gone(stubborn=True)

        run(store)
        run(store)

        assert FailureRecord.objects.get().count == 2

    def test_the_row_itself_is_left_alone(self, store):
        row = gone(stubborn=True)
        before = fetch(row).__dict__

        run(store)

        after = fetch(row).__dict__
        assert {k: v for k, v in after.items() if k != "_state"} == {
            k: v for k, v in before.items() if k != "_state"
        }

    def test_once_nothing_keeps_it_it_goes(self, store):
        row = gone()
        Lock.objects.create(row=row)
        run(store)
        Lock.objects.all().delete()

        assert run(store).deleted == [row.pk]
        assert not FailureRecord.objects.exists()


@pytest.mark.postgresql
@pytest.mark.mysql
@pytest.mark.django_db(transaction=True)
class TestLockedRows:
    def test_are_left_for_later(self, store, start_thread):
        import threading

        from django.db import transaction

        row, other = gone(), gone()
        locked, release = threading.Event(), threading.Event()

        def lock():
            with transaction.atomic():
                Expiring.objects.select_for_update().get(pk=row.pk)
                locked.set()
                assert release.wait(60)

        thread = start_thread(lock)
        assert locked.wait(30)

        assert run(store).deleted == [other.pk]

        release.set()
        thread.result()
        assert run(store).deleted == [row.pk]


class TestVerb:
    def test_state_do_deletes_returns_how_many_it_deleted(self):
        gone()
        gone(YOUNG)
        Order.objects.create(state="shipped")

        assert Expiring.state_do_deletes() == 1
        assert Expiring.state_do_deletes() == 0
        assert Order.state_do_deletes() == 0

    def test_a_batch_at_a_time(self, settings):
        settings.FSMWORKER = {"DELETE_BATCH": 2}
        for _ in range(3):
            gone()

        assert [Expiring.state_do_deletes() for _ in range(3)] == [2, 1, 0]
