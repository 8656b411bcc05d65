"""What people do to rows in trouble: retry, park, unpark, cancel."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from django_fsmworker import clock
from django_fsmworker.exceptions import NotAllowed
from django_fsmworker.models import FailureRecord, operating
from django_fsmworker.models.fields import failures_of
from django_fsmworker.store import store_for
from django_fsmworker.store.failures import Failure, record
from django_fsmworker.testing import run_until_idle, travel
from tests.app.models import BasicModel, Delivery, Endpoint, Trouble
from tests.database.rows import FUTURE, PAST, claim, claimed, fence, fetch, pks, put, statements
from tests.model_kinds import KindOfModel, every_kind

pytestmark = pytest.mark.django_db(databases=["default", "other"])


def failing(model: Any = Trouble, failures: int = 2, **columns: Any) -> Any:
    """A row that has failed, with its record; by default it is due in an hour."""
    row = model.objects.create()
    put(row, **{"state_next": FUTURE, "state_failures": failures, **columns})
    record("default", model, [(row.pk, row.state, Failure("ValueError", "no"))], "me")
    return fetch(row)


def parked(failures: int = 3) -> Any:
    """A row that failed for good where it is."""
    return failing(failures=failures, state_next=None)


def is_due(row: Any) -> bool:
    return bool(type(row).objects.due().filter(pk=row.pk).exists())


class TestRetry:
    @pytest.mark.parametrize("columns", [{}, {"state_next": None}])
    def test_a_failing_row_is_due_with_all_its_attempts(self, columns: Any) -> None:
        row = failing(**columns)

        assert row.state_retry(by="ann", reason="mended") is True

        assert is_due(row)
        assert (row.state_failures, fetch(row).state_failures) == (0, 0)
        assert row.failure is not None and row.failure.resolved is not None

    def test_a_row_that_waits_for_its_next_try(self) -> None:
        row = Trouble.objects.create(state_next=clock.now() + FUTURE)

        assert row.state_retry() is True

        assert pks(claim(Trouble)) == [row.pk]

    def test_a_row_that_was_parked_by_hand(self) -> None:
        row = Trouble.objects.create()
        row.state_park("not now")

        assert row.state_retry() is True

        assert is_due(row)
        assert row.state_failures == 0
        assert row.failure is not None and row.failure.resolved is not None

    def test_its_timeout_goes_on(self) -> None:
        row = BasicModel.objects.create(state_next=clock.now() + FUTURE)
        entered = fetch(row).state_changed

        with travel(seconds=6) as further:
            row.state_retry()
            assert fetch(row).state_changed == entered
            run_until_idle(BasicModel)
            further(seconds=6)
            run_until_idle(BasicModel)

        assert fetch(row).state == "timed_out"

    def test_a_row_that_is_due_is_left_alone(self) -> None:
        row = Trouble.objects.create(state_next=clock.now() + PAST)

        assert row.state_retry() is False

        assert fetch(row).state_next == row.state_next

    def test_a_row_that_a_runner_holds_is_left_alone(self) -> None:
        row = claimed(Trouble)

        assert Trouble.objects.get().state_retry() is False

        assert fetch(row).state_claim == row.state_claim

    @pytest.mark.parametrize(
        ("state", "why"),
        [("done", "it is terminal"), ("waiting", "it is manual, so nothing is run in it")],
    )
    def test_nothing_is_run_in_that_state(self, state: str, why: str) -> None:
        row = Trouble.objects.create(state=state)

        with pytest.raises(NotAllowed) as refused:
            row.state_retry()

        assert refused.value.reason == "source_state"
        assert str(refused.value) == (
            f"tests.Trouble {row.pk} cannot be retried in the state {state}: {why}. "
            f"Move it instead."
        )

    def test_a_state_that_the_graph_does_not_declare(self) -> None:
        row = Trouble.objects.create()
        put(row, state="nirvana", state_next=None)

        with pytest.raises(NotAllowed, match="the graph does not declare it"):
            fetch(row).state_retry()

    def test_a_manual_row_whose_timeout_was_refused(self) -> None:
        row = Trouble.objects.create(state="waiting")
        put(row, state_next=None, state_failures=1)

        assert fetch(row).state_retry() is True

        assert is_due(row)

    def test_unsaved_columns_are_refused(self) -> None:
        row = Trouble.objects.create()
        row.state_next = None

        with pytest.raises(ValueError, match="which state_retry.. would drop"):
            row.state_retry()

    def test_a_row_that_is_gone(self) -> None:
        row = Trouble.objects.create()
        Trouble.objects.all().delete()

        with pytest.raises(Trouble.DoesNotExist):
            row.state_retry()

    def test_it_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        row = failing()

        with caplog.at_level(logging.INFO, "django_fsmworker"):
            row.state_retry(by="ann", reason="the bank is back")

        (line,) = [each for each in caplog.records if each.name.endswith("operating")]
        assert line.getMessage() == (
            f"Rows were retried by ann: tests.Trouble {row.pk} (the bank is back)."
        )
        assert (line.action, line.verb, line.pk) == ("operated", "retry", row.pk)  # type: ignore[attr-defined]


class TestPark:
    def test_a_row_is_not_run_until_it_is_unparked(self) -> None:
        row = Trouble.objects.create()

        assert row.state_park("the bank is shut", by="ann") is True

        with travel(timedelta(days=1)):
            assert claim(Trouble) == []
        assert list(Trouble.objects.parked()) == [row]
        assert not Trouble.objects.failing().exists()
        assert row.state_unpark() is True
        assert pks(claim(Trouble)) == [row.pk]

    def test_who_and_why_is_on_record(self) -> None:
        row = Trouble.objects.create()

        row.state_park("the bank is shut", by="ann")

        found = row.failure
        assert found is not None
        assert (found.error, found.message) == (
            "django_fsmworker.exceptions.Parked",
            "the bank is shut",
        )
        assert (found.parked_by, found.parked_reason) == ("ann", "the bank is shut")
        assert (found.state, found.count, found.resolved) == ("new", 0, None)

    def test_the_record_of_a_failure_keeps_it(self) -> None:
        row = failing()

        row.state_park("look into it", by="ann")

        found = row.failure
        assert found is not None
        assert (found.error, found.message, found.parked_by) == ("ValueError", "no", "ann")

    def test_the_record_of_an_earlier_failure_begins_anew(self) -> None:
        row = failing()
        row.state_transition("patient")

        row.state_park("look into it")

        found = FailureRecord.objects.get()
        assert (found.error, found.count, found.resolved) == (operating.PARKED_BY_HAND, 0, None)

    def test_twice_gives_the_new_reason(self) -> None:
        row = failing(failures=2)
        row.state_park("first")

        assert row.state_park("second", by="bob") is True

        assert failures_of(fetch(row)) == 2
        assert row.failure is not None
        assert (row.failure.parked_reason, row.failure.parked_by) == ("second", "bob")

    def test_it_is_no_stranded_row(self) -> None:
        row = Trouble.objects.create()
        row.state_park("not now")
        store = store_for("default")

        assert not Trouble.objects.stranded().exists()
        assert store.with_stranded_rows([Trouble]) == []
        assert store.rescue_stranded(Trouble, 10) == 0

    def test_sweeps_leave_it_alone(self) -> None:
        row = Delivery.objects.create(state="held", endpoint=Endpoint.objects.create(removed=True))

        row.state_park("look into it")
        run_until_idle(Delivery)
        assert fetch(row).state == "held"

        row.state_unpark()
        run_until_idle(Delivery)
        assert fetch(row).state == "gone"

    def test_a_running_check_is_ended(self) -> None:
        row = claimed(Trouble)

        assert Trouble.objects.get().state_park("stop") is True

        found = fetch(row)
        assert found.state_claim == -1 - row.state_claim
        assert found.state_lease == row.state_lease
        store = store_for("default")
        assert store.revoked(Trouble, [fence(row)]) == {row.pk}
        assert store.release(Trouble, [fence(row)]) == {row.pk}
        assert fetch(row).state_next is None

    def test_its_timeout_waits_too(self) -> None:
        row = Trouble.objects.create(state="waiting")

        row.state_park("the customer is away")

        with travel(seconds=60):
            run_until_idle(Trouble)
            assert fetch(row).state == "waiting"
            row.state_unpark()
            run_until_idle(Trouble)
        assert fetch(row).state == "failed"

    def test_a_manual_row_is_due_at_its_timeout_again(self) -> None:
        row = Trouble.objects.create(state="waiting")
        due = fetch(row).state_next
        row.state_park("wait")

        row.state_unpark()

        assert abs(fetch(row).state_next - due) < timedelta(seconds=1)
        assert row.state_failures == 0

    def test_moving_it_ends_it(self) -> None:
        row = Trouble.objects.create()
        row.state_park("not now")

        row.state_transition("patient")

        assert is_due(row)
        assert row.state_failures == 0
        assert row.failure is not None and row.failure.resolved is not None

    @pytest.mark.parametrize("reason", ["", " \t", None])
    def test_it_takes_a_reason(self, reason: Any) -> None:
        row = Trouble.objects.create()

        for park in (row.state_park, Trouble.objects.park):
            with pytest.raises(ValueError, match="^Rows are parked for a reason, which is put on"):
                park(reason)

        assert not Trouble.objects.parked().exists()

    @pytest.mark.parametrize("state", ["done", "failed"])
    def test_there_is_nothing_to_put_off(self, state: str) -> None:
        row = Trouble.objects.create(state=state)

        with pytest.raises(NotAllowed, match="cannot be parked in the state .*: it is terminal."):
            row.state_park("no")

        assert row.failure is None

    def test_what_runs_all_the_same_has_the_failures_it_had(self) -> None:
        row = failing(failures=1)
        row.state_park("not now")
        put(row, state_next=PAST)
        Trouble.objects.update(mode="raise")

        assert fetch(row).state_transition_check() is None

        assert fetch(row).state_failures == 2


class TestUnpark:
    def test_a_row_has_the_failures_that_it_had(self) -> None:
        row = failing(failures=2)
        row.state_park("not now")

        row.state_unpark()

        assert (row.state_failures, is_due(row)) == (2, True)
        assert row.failure is not None and row.failure.resolved is None

    def test_the_record_of_the_park_is_resolved(self) -> None:
        row = Trouble.objects.create()
        row.state_park("not now")

        row.state_unpark()

        assert row.failure is not None and row.failure.resolved is not None

    def test_a_row_that_failed_for_good_has_all_its_attempts(self) -> None:
        row = parked()

        assert row.state_unpark() is True

        assert (row.state_failures, is_due(row)) == (0, True)
        assert row.failure is not None and row.failure.resolved is not None

    def test_a_row_that_is_not_parked(self) -> None:
        row = Trouble.objects.create()

        assert row.state_unpark() is False


class TestCancel:
    def test_the_check_is_ended_and_the_row_due_again_later(self) -> None:
        row = claimed(BasicModel, state="slow")

        assert BasicModel.objects.get().state_cancel() is True

        found = fetch(row)
        assert (found.state, found.state_claim) == ("slow", -1 - row.state_claim)
        store = store_for("default")
        assert store.renew(BasicModel, [fence(row)], 30) == set()
        assert store.release(BasicModel, [fence(row)]) == {row.pk}
        assert claim(BasicModel) == []
        with travel(seconds=6):  # retry_after is 5 s
            assert pks(claim(BasicModel)) == [row.pk]
        assert fetch(row).state_failures == 0

    @pytest.mark.parametrize("retry_in", [90, timedelta(seconds=90)])
    def test_the_caller_says_when(self, retry_in: Any) -> None:
        row = claimed(BasicModel, state="slow")

        BasicModel.objects.get().state_cancel(retry_in=retry_in)

        wait = fetch(row).state_next - clock.now()
        assert timedelta(seconds=80) < wait <= timedelta(seconds=90)

    def test_a_timeout_that_is_earlier_counts(self) -> None:
        row = claimed(BasicModel)  # its timeout is 10 s

        BasicModel.objects.get().state_cancel(retry_in=90)

        assert fetch(row).state_next - clock.now() <= timedelta(seconds=10)

    @pytest.mark.parametrize("lease", [None, PAST])
    def test_nothing_runs(self, lease: Any) -> None:
        row = claimed(BasicModel)
        put(row, state_lease=lease)

        assert BasicModel.objects.get().state_cancel() is False

    def test_what_is_being_ended_already(self) -> None:
        claimed(BasicModel)
        BasicModel.objects.get().state_cancel()

        assert BasicModel.objects.get().state_cancel() is False

    def test_a_claim_by_hand_is_given_up(self) -> None:
        BasicModel.objects.create()
        (row,) = BasicModel.state_get_ready(1, 30)

        assert row.state_cancel(retry_in=0) is True

        assert (row.state_claim, row.state_lease) == (None, None)


class TestMany:
    """The same of a queryset: batches, in the order of the keys."""

    def test_each_word(self) -> None:
        rows = [failing(), parked(), Trouble.objects.create(state="done")]

        assert Trouble.objects.retry_now(by="ann") == 2
        assert Trouble.objects.due().count() == 2
        assert Trouble.objects.park("all of them") == 2
        assert set(Trouble.objects.parked()) == set(rows[:2])
        assert Trouble.objects.unpark() == 2
        assert len(claim(Trouble)) == 2
        assert Trouble.objects.cancel_running() == 2
        assert FailureRecord.objects.filter(resolved=None).count() == 0

    def test_only_those_that_are_meant(self) -> None:
        first, second = failing(), failing()

        assert Trouble.objects.filter(pk=second.pk).retry_now() == 1

        assert not is_due(first)

    def test_in_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(operating, "BATCH", 2)
        rows = [failing() for _ in range(5)]

        assert Trouble.objects.failing().retry_now() == 5

        assert all(map(is_due, rows))

    def test_of_a_slice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(operating, "BATCH", 2)
        rows = [failing() for _ in range(5)]

        assert Trouble.objects.failing().order_by("pk")[:3].retry_now() == 3

        assert [is_due(row) for row in rows] == [True] * 3 + [False] * 2

    def test_a_batch_takes_as_many_statements_as_a_row(self) -> None:
        first, *_ = [Trouble.objects.create() for _ in range(20)]
        with statements() as of_one:
            Trouble.objects.filter(pk=first.pk).park("one")

        with statements() as of_many:
            Trouble.objects.exclude(pk=first.pk).park("all others")

        assert len(of_many) == len(of_one)

    @every_kind
    def test_of_every_kind_of_model(self, kind: KindOfModel) -> None:
        first, second = kind.row(1), kind.row(2)

        assert first.state_park("by hand", by="ann") is True

        assert kind.stored(first).state_failures == -1
        assert kind.stored(second).state_failures == 0
        assert first.failure is not None and first.failure.parked_by == "ann"
        assert first.state_unpark() is True
        assert kind.stored(first).state_next is not None

    def test_for_async_code(self) -> None:
        row = failing()

        assert async_to_sync(row.astate_park)("wait") is True
        assert async_to_sync(row.astate_unpark)() is True
        assert async_to_sync(row.astate_cancel)() is False
        assert async_to_sync(row.astate_retry)() is False
        assert async_to_sync(Trouble.objects.all().apark)("wait") == 1
        assert async_to_sync(Trouble.objects.all().aunpark)() == 1
        assert async_to_sync(Trouble.objects.all().aretry_now)() == 0
        assert async_to_sync(Trouble.objects.all().acancel_running)() == 0
