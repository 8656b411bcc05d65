"""Failure records: one a row, in the row's database, counted until the row recovers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError

from django_fsmworker import clock
from django_fsmworker.models import FailureRecord
from django_fsmworker.models.resolving import resolve_failures
from django_fsmworker.runner.execution.writing import write
from django_fsmworker.store import Ending, store_for
from django_fsmworker.store.failures import (
    LONGEST_TRACEBACK,
    Failure,
    count_deaths,
    forget,
    record,
    survived,
)
from django_fsmworker.testing import travel
from testapp.models import Order
from tests.app.models import Noop, TextKey, UUIDKey
from tests.database.rows import claim, claimed, fetch, moved, put, stayed

pytestmark = pytest.mark.django_db

FAILURE = Failure("RuntimeError", "no", "Traceback: no")


def note(row, failure=FAILURE, worker="worker 1", using="default"):
    record(using, type(row), [(row.pk, str(row.state), failure)], worker)


def only_record(using="default"):
    return FailureRecord.objects.using(using).get()


def counted(row: Any) -> int:
    """Count one more death; the number of those before."""
    return count_deaths("default", type(row), row.state, [row.pk], "worker").get(row.pk, 0)


class TestRecord:
    def test_the_first_failure_makes_the_record(self):
        row = Order.objects.create()

        note(row)

        entry = only_record()
        assert (entry.model, entry.row, entry.state) == ("testapp.Order", str(row.pk), "new")
        assert (entry.error, entry.message, entry.traceback) == (
            "RuntimeError",
            "no",
            "Traceback: no",
        )
        assert (entry.count, entry.deaths, entry.worker) == (1, 0, "worker 1")
        assert entry.first_seen == entry.last_seen
        assert entry.resolved is None

    def test_more_of_them_count_up_and_keep_the_last(self):
        row = Order.objects.create()
        note(row)
        first = only_record().first_seen

        for number in range(2, 5):
            note(row, Failure("ValueError", f"number {number}"), f"worker {number}")

        entry = only_record()
        assert entry.count == 4
        assert (entry.error, entry.message, entry.worker) == ("ValueError", "number 4", "worker 4")
        assert entry.first_seen == first < entry.last_seen

    def test_what_is_noted_already_counts_once(self):
        row = Order.objects.create()
        note(row)

        note(row, Failure("RuntimeError", "again", noted=True))

        assert (only_record().count, only_record().message) == (1, "again")

    def test_noted_without_a_record_counts_all_the_same(self):
        note(Order.objects.create(), Failure("RuntimeError", "no", noted=True))

        assert only_record().count == 1

    def test_after_recovery_the_count_begins_anew(self):
        row = Order.objects.create()
        note(row)
        note(row)
        resolve_failures(Order, [row.pk], "default")
        assert only_record().resolved is not None

        with travel(seconds=60):
            note(row)

        entry = only_record()
        assert (entry.count, entry.deaths, entry.resolved) == (1, 0, None)
        assert entry.first_seen == entry.last_seen

    def test_what_was_resolved_is_added_up(self):
        row = Order.objects.create()
        for number in (2, 3):
            for _ in range(number):
                note(row)
            resolve_failures(Order, [row.pk], "default")
            resolve_failures(Order, [row.pk], "default")  # nothing is resolved twice
        last = only_record().resolved

        note(row)

        entry = only_record()
        assert (entry.count, entry.resolved_failures) == (1, 5)
        assert entry.last_resolved == last

    def test_many_rows_are_recorded_at_once(self):
        rows = [Order.objects.create() for _ in range(3)]
        note(rows[1])

        record("default", Order, [(row.pk, "new", FAILURE) for row in rows], "worker 2")

        counts = dict(FailureRecord.objects.values_list("row", "count"))
        assert counts == {str(rows[0].pk): 1, str(rows[1].pk): 2, str(rows[2].pk): 1}

    def test_of_models_with_equal_keys(self):
        note(Order.objects.create(pk=5))
        note(Noop.objects.create(pk=5))

        assert FailureRecord.objects.count() == 2

    @pytest.mark.parametrize("model", [UUIDKey, TextKey])
    def test_keys_of_other_types_are_recorded_as_text(self, model):
        row = model.objects.create(**({"code": "it's"} if model is TextKey else {}))

        note(row)
        note(row)
        resolve_failures(model, [row.pk], "default")

        entry = only_record()
        assert (entry.row, entry.count) == (str(row.pk), 2)
        assert entry.resolved

    @pytest.mark.django_db(databases=["default", "other"])
    def test_in_the_rows_own_database(self):
        note(Order.objects.using("other").create(), using="other")

        assert FailureRecord.objects.count() == 0
        assert only_record("other").count == 1

    def test_it_is_seen_at_the_travelled_time(self):
        with travel(timedelta(days=1)):
            note(Order.objects.create())

        assert only_record().last_seen - clock.now() > timedelta(hours=23)

    def test_one_record_a_row(self):
        note(Order.objects.create())
        entry = only_record()
        entry.pk = None

        with pytest.raises(IntegrityError):
            entry.save()


class TestFailure:
    def raised(self, error):
        try:
            raise error
        except type(error) as caught:
            return Failure.of(caught)

    def test_a_builtin_error_is_named_alone(self):
        failure = self.raised(ValueError("what"))

        assert (failure.error, failure.message) == ("ValueError", "what")
        assert failure.traceback.startswith("Traceback (most recent call last):")
        assert failure.traceback.endswith("ValueError: what\n")

    def test_an_error_of_another_module_is_named_with_it(self):
        failure = self.raised(Order.DoesNotExist("no such order"))

        assert failure.error == "testapp.models.orders.DoesNotExist"

    def test_the_end_of_a_long_traceback_is_kept(self):
        failure = self.raised(ValueError("x" * 50_000 + "the end"))

        assert len(failure.traceback) == LONGEST_TRACEBACK
        assert failure.traceback.endswith("the end\n")

    @pytest.mark.parametrize("text", ["nul \x00", "surrogate \udcff", "emoji 🦆", "'; DROP TABLE"])
    def test_any_text_can_be_stored(self, text):
        note(Order.objects.create(), self.raised(ValueError(text)))

        assert only_record().message == text.replace("\x00", "\ufffd").replace("\udcff", "?")

    def test_an_exception_whose_text_raises(self):
        class Unspeakable(Exception):
            def __str__(self):
                raise RuntimeError("not even that")

        failure = self.raised(Unspeakable())

        assert failure.error.endswith("Unspeakable")
        assert isinstance(failure.message, str)


class TestResolve:
    def test_only_what_is_failing(self):
        first, second = Order.objects.create(), Order.objects.create()
        note(first)
        resolve_failures(Order, [first.pk, second.pk], "default")
        then = only_record().resolved

        with travel(seconds=60):
            resolve_failures(Order, [first.pk], "default")

        assert only_record().resolved == then

    def test_forgetting_deletes_the_records_of_those_rows(self):
        first, second = Order.objects.create(), Order.objects.create()
        note(first)
        note(second)

        forget("default", Order, [first.pk])

        assert only_record().row == str(second.pk)


class TestDeaths:
    def test_counted_before_a_suspect_runs(self):
        row = Order.objects.create()

        assert [counted(row) for _ in range(3)] == [0, 1, 2]
        assert only_record().deaths == 3
        assert only_record().error == "django_fsmworker.exceptions.ProcessDied"

    def test_forgotten_when_it_survives(self):
        row = Order.objects.create()
        counted(row)

        survived("default", Order, [row.pk])

        assert (only_record().deaths, only_record().resolved) == (0, None)

    def test_forgotten_when_it_recovers(self):
        row = Order.objects.create()
        counted(row)

        resolve_failures(Order, [row.pk], "default")

        assert (only_record().deaths, only_record().resolved is None) == (0, False)


class TestWrittenWithTheOutcome:
    @pytest.fixture
    def store(self):
        return store_for("default")

    def fail(self, store, row, failures=1):
        outcome = stayed(row, ending=Ending.FAILED, failures=failures, failure=FAILURE)
        return write(store, Order, [outcome], "worker")

    def test_a_failure_is_recorded_with_its_outcome(self, store):
        row = claimed(Order)

        assert self.fail(store, row) == {row.pk}

        assert fetch(row).state_failures == 1
        assert only_record().count == 1

    def test_not_for_a_row_that_is_not_ours_any_more(self, store):
        row = claimed(Order)
        put(row, state_claim=4)

        assert self.fail(store, row) == set()

        assert not FailureRecord.objects.exists()

    def test_a_recovery_resolves_the_record(self, store):
        self.fail(store, claimed(Order, pk=5))
        put(Order.objects.get(), state_next=-timedelta(seconds=1))
        (row,) = claim(Order)

        write(store, Order, [moved(row, "paid")], "worker")

        assert only_record().resolved is not None

    def test_no_recovery_for_a_row_that_is_not_ours_any_more(self, store):
        self.fail(store, claimed(Order, pk=5))
        put(Order.objects.get(), state_next=-timedelta(seconds=1))
        (row,) = claim(Order)
        put(row, state_claim=4)

        write(store, Order, [moved(row, "paid")], "worker")

        assert only_record().resolved is None
