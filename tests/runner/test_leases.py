"""Leases last as long as the attempt; a row that moves ends it, and its result is fenced off."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from django_fsmworker import clock
from django_fsmworker.models.records import FailureRecord
from tests.app.models import Trouble, trouble
from tests.runner.embedded import Embedded, one_pass
from tests.runner.held_check import HeldCheck
from tests.runner.rows import fresh, path

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]

# A row is renewed when a third of it has passed. The rest is for a machine that stands still: who
# sleeps for longer than that has lost the row, and rightly so.
LEASE = 4.0


def gated() -> Trouble:
    return Trouble.objects.create(mode="held")


class TestRenewal:
    def test_a_long_check_keeps_its_lease_and_nobody_else_runs_it(
        self, start_runner: Start, eventually: Eventually, held_check: HeldCheck
    ) -> None:
        row = gated()
        first = start_runner(Trouble, lease=LEASE)
        eventually(lambda: held_check.begun)
        claimed = fresh(row)
        second = start_runner(Trouble, lease=LEASE)

        # Renewed when the first lease had passed …
        passed = claimed.state_lease + timedelta(seconds=LEASE)
        eventually(lambda: fresh(row).state_lease > passed, 30)
        held = fresh(row)
        held_check.released.set()
        eventually(lambda: fresh(row).state == "done")

        assert held_check.begun == [row.pk]
        assert held.state_claim == claimed.state_claim
        assert held.state_lease > claimed.state_lease
        assert held.state_next > claimed.state_next, "it has left the head of its lane"
        assert held.state_failures == 0
        assert (first.total("superseded"), second.total("moved")) == (0, 0)

    def test_rows_that_wait_for_a_thread_keep_their_leases(
        self, start_runner: Start, eventually: Eventually, held_check: HeldCheck
    ) -> None:
        rows = [gated() for _ in range(2)]
        start_runner(Trouble, lease=LEASE, concurrency=1)
        eventually(lambda: Trouble.objects.running().count() == 2)
        until = max(fresh(row).state_lease for row in rows)

        eventually(lambda: all(fresh(row).state_lease > until for row in rows))
        assert Trouble.objects.running().count() == 2
        held_check.released.set()

        eventually(lambda: not Trouble.objects.exclude(state="done").exists())
        assert sorted(held_check.begun) == [row.pk for row in rows]

    def test_a_lapsed_lease_that_nobody_took_is_renewed(
        self, start_runner: Start, eventually: Eventually, held_check: HeldCheck
    ) -> None:
        row = gated()
        runner = start_runner(Trouble, lease=1)
        eventually(lambda: held_check.begun)
        now = clock.now()
        Trouble.objects.filter(pk=row.pk).update(
            state_lease=now - timedelta(seconds=1), state_next=now + timedelta(seconds=30)
        )

        eventually(lambda: Trouble.objects.running().exists())
        held_check.released.set()
        eventually(lambda: fresh(row).state == "done")

        assert runner.total("superseded") == 0


class TestCancel:
    def test_a_row_that_is_moved_while_it_runs_ends_its_check_at_the_next_renewal(
        self, start_runner: Start, eventually: Eventually, caplog: pytest.LogCaptureFixture
    ) -> None:
        row = Trouble.objects.create(mode="loop")
        runner = start_runner(Trouble, lease=LEASE, deadline=60)
        eventually(lambda: runner.runner.status().threads.running)

        row.state_transition("waiting")
        eventually(lambda: not runner.runner.status().threads.running, 30)

        assert fresh(row).state == "waiting"
        assert path(row) == ["new", "waiting"]
        eventually(lambda: runner.total("superseded") == 1)
        assert not FailureRecord.objects.exists()
        assert f"The check of tests.Trouble {row.pk} in the state new was cancelled." in (
            caplog.messages
        )

    def test_its_thread_is_replaced_and_the_row_runs_again_where_it_is_now(
        self, start_runner: Start, eventually: Eventually
    ) -> None:
        row = Trouble.objects.create(mode="loop")
        runner = start_runner(Trouble, concurrency=1, lease=LEASE, deadline=60)
        eventually(lambda: runner.runner.status().threads.running)
        Trouble.objects.filter(pk=row.pk).update(mode="succeed")

        row.state_transition("patient")

        eventually(lambda: fresh(row).state == "done", 30)
        assert path(row) == ["new", "patient", "done"]

    @pytest.mark.once
    def test_a_check_that_does_not_end_although_its_row_moved_is_no_failure_of_the_row(
        self, start_runner: Start, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        enough = threading.Event()
        monkeypatch.setattr(trouble, "had_enough", enough)
        row = Trouble.objects.create(mode="swallow", value=60)
        runner = start_runner(Trouble, lease=LEASE, deadline=3, abandon_after=0.1)
        eventually(lambda: runner.runner.status().threads.running)

        row.state_transition("waiting")
        # It is cancelled at once; its thread counts as abandoned from its deadline on.
        eventually(lambda: runner.runner.status().threads.abandoned == 1, 30)
        enough.set()
        eventually(lambda: runner.runner.status().threads.abandoned == 0, 30)

        assert (fresh(row).state, runner.total("superseded")) == ("waiting", 1)
        assert not FailureRecord.objects.exists()


class TestFence:
    def test_the_result_of_a_check_whose_row_moved_changes_nothing(
        self,
        start_runner: Start,
        eventually: Eventually,
        held_check: HeldCheck,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        row = gated()
        runner = start_runner(Trouble)
        eventually(lambda: held_check.begun)

        row.state_transition("waiting")
        before = fresh(row)
        held_check.released.set()
        with caplog.at_level("INFO", logger="django_fsmworker"):
            eventually(lambda: runner.total("superseded") == 1)

        after = fresh(row)
        assert after.state == "waiting"
        assert (after.state_changed, after.state_next) == (before.state_changed, before.state_next)
        assert runner.total("moved") == 0

    def test_it_is_counted_once(
        self, start_runner: Start, eventually: Eventually, held_check: HeldCheck
    ) -> None:
        row = gated()
        runner = start_runner(Trouble, lease=LEASE)
        eventually(lambda: held_check.begun)

        row.state_transition("waiting")
        eventually(lambda: runner.total("superseded") == 1)
        held_check.released.set()
        runner.stop()

        assert runner.total("superseded") == 1
        assert runner.total("interrupted") == 0

    def test_a_row_that_went_to_the_same_state_again_is_another_stay(
        self, start_runner: Start, eventually: Eventually, held_check: HeldCheck
    ) -> None:
        row = gated()
        runner = start_runner(Trouble, lease=LEASE)
        eventually(lambda: held_check.begun)
        row.state_transition("new")

        eventually(lambda: len(held_check.begun) == 2)
        held_check.released.set()
        eventually(lambda: fresh(row).state == "done")

        assert path(row) == ["new", "new", "done"]
        eventually(lambda: runner.total("superseded") == 1)

    def test_a_row_that_is_deleted_while_it_runs_stays_deleted(
        self, start_runner: Start, eventually: Eventually, held_check: HeldCheck
    ) -> None:
        row = gated()
        runner = start_runner(Trouble)
        eventually(lambda: held_check.begun)

        row.delete()
        held_check.released.set()

        eventually(lambda: runner.total("superseded") == 1)
        assert not Trouble.objects.exists()

    def test_many_runners_move_each_row_once(
        self, start_runner: Start, eventually: Eventually, mode: Callable[..., None]
    ) -> None:
        lock, ran = threading.Lock(), []

        def note(row: Trouble) -> str:
            with lock:
                ran.append(row.pk)
            return "done"

        mode("note", note)
        rows = Trouble.objects.bulk_create(Trouble(mode="note") for _ in range(200))
        runners = [start_runner(Trouble) for _ in range(3)]

        eventually(lambda: not Trouble.objects.exclude(state="done").exists())

        assert sorted(ran) == sorted(row.pk for row in rows)
        eventually(lambda: sum(each.total("moved") for each in runners) == 200)
        assert {
            len(history) for history in Trouble.objects.values_list("state_history", flat=True)
        } == {2}


class TestInline:
    def test_a_row_checked_by_hand_while_somebody_was_faster(self) -> None:
        row = Trouble.objects.create()
        stale = fresh(row)
        one_pass(Trouble)

        assert stale.state_transition_check() is None
        assert stale.state == "done"
        assert path(row) == ["new", "done"]
