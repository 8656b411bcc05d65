"""How a runner ends: what has not started is handed back, what runs may end, nothing is counted."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from django_fsmworker.models.records import FailureRecord
from django_fsmworker.runner import StatorRunner
from django_fsmworker.runner.database.outages import QueryWatchdog
from django_fsmworker.runner.main_loop import Watchdog
from django_fsmworker.thread_starter import prepare_to_start_threads
from tests.app.models import BasicModel, Chain, Trouble
from tests.app.models.trouble import TroubleStates
from tests.runner.embedded import QUICK, Embedded, one_pass
from tests.runner.held_check import HeldCheck
from tests.runner.rows import due_in, fresh, lapse, reason, states
from tests.runner.server import Server

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]


def gated(number: int) -> list[Trouble]:
    return [Trouble.objects.create(mode="held") for _ in range(number)]


@pytest.fixture
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of ``patient``; checks in other states have all the time they take."""
    monkeypatch.setattr(TroubleStates.patient, "deadline", 0.3)


@pytest.fixture
def stuck(mode: Callable[..., None]) -> Iterator[None]:
    """Checks of the mode ``stuck`` are in a call, which nothing interrupts, until the test ends."""
    released = threading.Event()
    mode("stuck", lambda row: released.wait())
    yield
    released.set()


class TestHandingBack:
    def test_what_has_not_started_is_free_and_due_at_once(
        self, start_runner: Start, eventually: Eventually, held_check: HeldCheck
    ) -> None:
        rows = gated(6)
        runner = start_runner(Trouble, concurrency=2)
        eventually(lambda: Trouble.objects.running().count() >= 4 and len(held_check.begun) == 2)

        runner.runner.stop(60)
        waiting = [row for row in rows if row.pk not in held_check.begun]
        eventually(lambda: not any(fresh(row).state_claim for row in waiting))
        held_check.released.set()
        runner.stop(60)

        assert sorted(states(rows)) == ["done"] * 2 + ["new"] * 4
        for row in waiting:
            left = fresh(row)
            assert (left.state_lease, left.state_claim, left.state_failures) == (None, None, 0)
            assert due_in(row) <= 0
        assert runner.total("moved") == 2
        assert not FailureRecord.objects.exists()

    def test_a_suspect_that_is_handed_back_stays_a_suspect_and_is_counted_once(
        self, start_runner: Start, eventually: Eventually, held_check: HeldCheck
    ) -> None:
        rows = gated(2)
        suspect = Trouble.objects.create()
        runner = start_runner(Trouble, concurrency=2)
        eventually(lambda: len(held_check.begun) == 2)
        lapse([suspect], times=2)
        eventually(lambda: fresh(suspect).state_failures == 2)

        runner.runner.stop(60)
        eventually(lambda: fresh(suspect).state_claim is None)
        held_check.released.set()
        runner.stop(60)

        assert fresh(suspect).state_failures == 1
        assert fresh(suspect).state_lease is not None
        one_pass(Trouble)
        assert set(states([*rows, suspect])) == {"done"}


class TestDraining:
    def test_what_runs_may_end(
        self, start_runner: Start, eventually: Eventually, held_check: HeldCheck
    ) -> None:
        (row,) = gated(1)
        runner = start_runner(Trouble)
        eventually(lambda: held_check.begun)

        runner.runner.stop(60)
        assert fresh(row).state == "new"
        held_check.released.set()
        runner.stop(60)

        assert fresh(row).state == "done"

    def test_what_does_not_end_in_time_is_interrupted_and_nothing_is_counted(
        self, start_runner: Start, eventually: Eventually, caplog: pytest.LogCaptureFixture
    ) -> None:
        rows = [Trouble.objects.create(mode="loop") for _ in range(2)]
        runner = start_runner(Trouble, concurrency=2, drain_timeout=0.3)
        eventually(lambda: len(runner.runner.status().threads.running) == 2)

        runner.stop()

        for row in rows:
            left = fresh(row)
            assert (left.state, left.state_failures, left.state_claim) == ("new", 0, None)
            assert due_in(row) <= 0
        assert not FailureRecord.objects.exists()
        assert runner.total("interrupted") == 2
        assert runner.total("superseded") == 0
        assert (
            "2 checks did not end within the drain timeout of 0 s; they were interrupted."
            in caplog.messages
        )

    def test_stop_says_how_long_from_another_thread(
        self, start_runner: Start, eventually: Eventually
    ) -> None:
        row = Trouble.objects.create(mode="loop")
        runner = start_runner(Trouble, drain_timeout=600, deadline=600)
        eventually(lambda: runner.runner.status().threads.running)

        runner.stop(timeout=0.2)

        assert fresh(row).state_failures == 0

    def test_no_thread_is_left(self, start_runner: Start, eventually: Eventually) -> None:
        prepare_to_start_threads()  # that thread stays, for the next runner
        before = set(threading.enumerate())
        Trouble.objects.create()
        runner = start_runner(Trouble)
        eventually(lambda: runner.total("moved") == 1)

        runner.stop()

        def left() -> list[str]:
            return [
                each.name
                for each in threading.enumerate()
                if each.name.startswith("fsmworker-") and each not in before
            ]

        eventually(lambda: not left())

    def test_the_thread_that_watches_queries_has_ended_when_run_returns(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        watch, ending = QueryWatchdog.run, threading.Event()
        watchdogs: list[QueryWatchdog] = []

        def end_late(watchdog: QueryWatchdog) -> None:
            watchdogs.append(watchdog)
            watch(watchdog)
            threading.Timer(0.3, ending.set).start()
            ending.wait()

        monkeypatch.setattr(QueryWatchdog, "run", end_late)

        one_pass(Trouble)

        assert [watchdog.is_alive() for watchdog in watchdogs] == [False]

    @pytest.mark.postgresql
    @pytest.mark.mysql
    def test_no_connection_is_left(
        self, start_runner: Start, eventually: Eventually, server: Server, short_deadline: None
    ) -> None:
        loop = Trouble.objects.create(mode="loop", state="patient")
        rows = [loop, *[Trouble.objects.create(mode=mode) for mode in ("succeed", "raise")]]
        runner = start_runner(Trouble)
        eventually(
            lambda: all(runner.total(name) == 1 for name in ("moved", "failed", "overran")), 30
        )

        runner.stop()

        eventually(lambda: server.other_connections() == 0, 30)
        assert states(rows) == ["patient", "done", "new"]

    def test_a_long_drain_is_no_stall(
        self, start_runner: Start, eventually: Eventually, held_check: HeldCheck
    ) -> None:
        stalls: list[bool] = []
        row, waiting = gated(2)
        runner = start_runner(
            Trouble, concurrency=1, watchdog_interval=0.2, on_stall=lambda: stalls.append(True)
        )
        eventually(lambda: held_check.begun and fresh(waiting).state_claim)

        runner.runner.stop(60)
        eventually(lambda: not fresh(waiting).state_claim)  # by now the drain has begun
        stalls.clear()
        # Meanwhile one like its own, over a loop that does stand still, barks three times.
        barks: list[bool] = []
        other = Watchdog(0.2, lambda: barks.append(True))
        other.start()
        eventually(lambda: len(barks) == 3)
        other.stop()
        other.join()
        held_check.released.set()
        runner.stop(60)

        assert stalls == []
        assert states([row, waiting]) == ["done", "new"]


@pytest.mark.once
class TestRunFor:
    def test_so_many_seconds(self) -> None:
        began = time.monotonic()

        StatorRunner([Trouble], **QUICK).run(run_for=0.4)

        assert 0.4 <= time.monotonic() - began < 20

    def test_rows_that_become_due_meanwhile_are_run(
        self, start_thread: Callable[..., Any], eventually: Eventually
    ) -> None:
        runner = StatorRunner([Chain], **QUICK)
        thread = start_thread(runner.run, run_for=100)
        eventually(lambda: runner.status().rounds)
        row = Chain.objects.create()

        eventually(lambda: fresh(row).state == "last")
        runner.stop()
        thread.result(30)

    def test_zero_is_one_pass_over_everything_due(self) -> None:
        rows = [Trouble.objects.create() for _ in range(100)]

        runner = one_pass(Trouble, concurrency=2)

        assert set(states(rows)) == {"done"}
        assert runner.counters.total("moved") == 100

    def test_zero_waits_for_what_it_started(self) -> None:
        row = Trouble.objects.create(mode="sleep", value=1)

        one_pass(Trouble)

        assert fresh(row).state == "done"

    @pytest.mark.usefixtures("stuck", "short_deadline")
    def test_zero_ends_although_a_check_does_not(self) -> None:
        row = Trouble.objects.create(mode="stuck", state="patient")
        good = Trouble.objects.create()

        one_pass(Trouble, abandon_after=0.1, drain_timeout=0.3)

        assert states([row, good]) == ["patient", "done"]
        left = fresh(row)
        assert (left.state_failures, left.state_claim) == (1, None)
        assert "did not end within its deadline" in reason(row)

    def test_a_runner_that_was_stopped_before_does_not_run(self) -> None:
        row = Trouble.objects.create()
        runner = StatorRunner([Trouble], **QUICK)

        runner.stop()
        runner.run()

        assert fresh(row).state == "new"

    def test_zero_with_nothing_due_ends_at_once(self) -> None:
        began = time.monotonic()

        one_pass(Trouble)

        assert time.monotonic() - began < 20

    def test_none_is_until_stop(self, start_runner: Start, eventually: Eventually) -> None:
        runner = start_runner(Trouble)
        for _ in range(3):
            row = Trouble.objects.create()
            eventually(lambda pk=row.pk: Trouble.objects.filter(pk=pk, state="done").exists())

        assert runner.alive


@pytest.mark.once
class TestEmbedding:
    def test_it_runs_off_the_main_thread_with_all_its_strength(
        self, start_runner: Start, eventually: Eventually
    ) -> None:
        rows = [Trouble.objects.create() for _ in range(10)]
        runner = start_runner(Trouble, concurrency=3)

        eventually(lambda: set(states(rows)) == {"done"})

        assert runner.alive
        assert runner.working_threads() == 3

    def test_signal_handlers_and_alarms_are_left_alone(self) -> None:
        def theirs(number: int, frame: Any) -> None: ...

        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
        before = {number: signal.signal(number, theirs) for number in numbers}
        signal.setitimer(signal.ITIMER_REAL, 100)
        try:
            one_pass(Trouble)
            assert [signal.getsignal(number) for number in numbers] == [theirs] * 3
            assert signal.getitimer(signal.ITIMER_REAL)[0] > 90
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def test_two_runners_in_one_process(self, start_runner: Start, eventually: Eventually) -> None:
        first = start_runner(Trouble)
        second = start_runner(BasicModel)
        row, other = Trouble.objects.create(), BasicModel.objects.create(ready=True)

        eventually(lambda: fresh(row).state == fresh(other).state == "done")

        eventually(lambda: (first.total("moved"), second.total("moved")) == (1, 1))
