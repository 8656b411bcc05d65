"""What the ancestor's own tests show, and what therefore stays."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from django_fsmworker import clock
from tests.app.models import BasicModel, BasicStates, Chain
from tests.runner.embedded import one_pass
from tests.runner.rows import entered, fresh, is_due_after

pytestmark = pytest.mark.django_db(transaction=True)


class TestCheck:
    def test_none_leaves_the_row_and_tries_again_within_retry_after_seconds(self) -> None:
        row, began = BasicModel.objects.create(), clock.now()

        returned = row.state_transition_check()

        assert returned is None
        assert fresh(row).state == "new"
        assert is_due_after(row, began, 5)

    def test_a_state_moves_the_row_and_comes_back_as_the_state_itself(self) -> None:
        row = BasicModel.objects.create(ready=True)

        returned = row.state_transition_check()

        assert returned is BasicStates.done
        assert row.state == "done"
        assert fresh(row).state == "done"

    def test_a_manual_state_has_nothing_due(self) -> None:
        row = BasicModel.objects.create(ready=True)

        row.state_transition_check()

        assert fresh(row).state_next is None

    def test_a_terminal_state_has_nothing_due_even_if_its_rows_are_deleted_later(self) -> None:
        row = BasicModel.objects.create(ready=True, state="pending_delete")
        entered(row, 6)

        returned = fresh(row).state_transition_check()

        assert returned is BasicStates.deleted
        assert fresh(row).state_next is None

    def test_a_row_older_than_its_timeout_moves_there(self) -> None:
        row = BasicModel.objects.create()
        row.state_changed = clock.now() - timedelta(seconds=11)
        row.save()

        returned = row.state_transition_check()

        assert returned is BasicStates.timed_out
        assert fresh(row).state == "timed_out"

    def test_a_row_younger_than_its_timeout_stays(self) -> None:
        row = BasicModel.objects.create()
        row.state_changed = clock.now() - timedelta(seconds=1)
        row.save()

        assert row.state_transition_check() is None
        assert fresh(row).state == "new"


class TestForcedTransition:
    def test_start_after_makes_the_row_due_that_much_later(self) -> None:
        row, began = BasicModel.objects.create(), clock.now()

        row.state_transition(BasicStates.pending_delete)

        assert fresh(row).state == "pending_delete"
        assert is_due_after(row, began, 5)


class TestOnePass:
    def test_the_ready_rows_move_and_no_others(self) -> None:
        ready = BasicModel.objects.create(ready=True)
        unready = BasicModel.objects.create()
        later = BasicModel.objects.create(ready=True, state_next=clock.now() + timedelta(minutes=1))
        manual = BasicModel.objects.create(ready=True, state="done")
        began = clock.now()

        one_pass(BasicModel)

        assert [fresh(row).state for row in (ready, unready, later, manual)] == [
            "done",
            "new",
            "new",
            "done",
        ]
        assert is_due_after(unready, began, 5)
        assert fresh(later).state_next == later.state_next

    def test_a_manual_row_with_a_stray_due_time_is_not_run_and_loses_it(self) -> None:
        row = BasicModel.objects.create(ready=True, state="done")
        BasicModel.objects.filter(pk=row.pk).update(state_next=clock.now())

        one_pass(BasicModel)

        assert fresh(row).state == "done"
        assert fresh(row).state_next is None

    def test_what_becomes_due_by_the_pass_is_left_for_the_next(self) -> None:
        row = Chain.objects.create()

        one_pass(Chain)

        assert fresh(row).state == "second"

    def test_rows_that_outlived_their_state_are_deleted_and_younger_ones_stay(self) -> None:
        old = [BasicModel.objects.create(state=state) for state in ("deleted", "timed_out")]
        young = BasicModel.objects.create(state="deleted")
        elsewhere = BasicModel.objects.create(state="done")
        for row in (*old, elsewhere):
            entered(row, 11)
        entered(young, 1)

        runner = one_pass(BasicModel)

        assert set(BasicModel.objects.values_list("pk", flat=True)) == {young.pk, elsewhere.pk}
        assert runner.counters.total("expired") == 2


class TestDeletes:
    def test_a_model_can_be_told_to_delete(self) -> None:
        old, young = (BasicModel.objects.create(state="deleted") for _ in range(2))
        entered(old, 11)

        assert BasicModel.state_do_deletes() == 1
        assert list(BasicModel.objects.values_list("pk", flat=True)) == [young.pk]


class TestDeadline:
    def test_one_thread_and_a_check_that_sleeps_longer_than_it_may(
        self, start_runner: Callable[..., Any], eventually: Callable[..., Any]
    ) -> None:
        slow = BasicModel.objects.create(state="slow")
        following = BasicModel.objects.create(ready=True)
        began = clock.now()

        runner = start_runner(BasicModel, concurrency=1, task_deadline=1)

        eventually(lambda: fresh(following).state == "done")
        eventually(lambda: runner.total("overran") >= 1)
        left = fresh(slow)
        assert left.state == "slow"
        # After the deadline, and up to five seconds.
        assert left.state_next > began + timedelta(seconds=1 + 3)
