"""Whether a runner is alive: the main loop comes round, due rows find a thread, threads end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from django_fsmworker import clock
from django_fsmworker.runner.main_loop import Liveness, Watchdog
from tests.app.models import Trouble
from tests.app.models.trouble import TroubleStates
from tests.runner.embedded import Embedded
from tests.runner.held_check import HeldCheck
from tests.runner.locking import TableLocker
from tests.runner.rows import failure, fresh, reason, states

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Any]
Eventually = Callable[..., Any]


@pytest.fixture
def table_locked(start_thread: Start) -> Callable[[Any], TableLocker]:
    return lambda row: TableLocker(start_thread, row)


def due_again_and_again() -> Trouble:
    """Rows that keep a runner claiming for longer than any test takes; returns the first.

    A slow machine, too, has run one of them before the next one is due.
    """
    now = clock.now()
    rows = [Trouble(state_next=now + timedelta(seconds=0.4 * number)) for number in range(400)]
    return Trouble.objects.bulk_create(rows)[0]


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def caught_up() -> bool:
    """Nothing is in hand whose settling would be locked out, too: then nothing would be claimed."""
    overdue = Trouble.objects.filter(state="new", state_next__lte=clock.now())
    return Trouble.objects.filter(state="done").exists() and not overdue.exists()


class TestStall:
    def test_an_embedded_runner_reports_and_goes_on(
        self,
        start_runner: Callable[..., Embedded],
        eventually: Eventually,
        table_locked: Callable[[Any], TableLocker],
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        stalls: list[float] = []
        row = due_again_and_again()
        runner = start_runner(
            Trouble, watchdog_interval=0.4, on_stall=lambda: stalls.append(time.monotonic())
        )
        eventually(caught_up, 30)
        stalls.clear()

        with table_locked(row):
            eventually(lambda: stalls, 30)

        text = "The main loop has not come round for 0 s; the stacks follow on stderr."
        assert text in caplog.messages
        eventually(lambda: "stator_runner.py" in capfd.readouterr().err)
        late = Trouble.objects.create()
        eventually(lambda: fresh(late).state == "done")
        assert runner.alive

    def test_long_checks_are_no_stall(
        self,
        start_runner: Callable[..., Embedded],
        eventually: Eventually,
        held_check: HeldCheck,
    ) -> None:
        stalls: list[bool] = []
        row = Trouble.objects.create(mode="held")
        runner = start_runner(
            Trouble,
            concurrency=1,
            deadline=90,
            hints=False,
            poll_interval=600,
            watchdog_interval=0.3,
            on_stall=lambda: stalls.append(True),
        )
        eventually(lambda: held_check.begun)
        # From now on the main loop sends nothing to the database, which may keep it waiting.
        rounds = runner.runner.rounds
        eventually(lambda: runner.runner.rounds > rounds + 2)
        stalls.clear()

        # One like the runner's own, over a loop that does stand still, barks meanwhile.
        barks: list[bool] = []
        other = Watchdog(0.3, lambda: barks.append(True))
        other.start()
        eventually(lambda: len(barks) == 3, 30)
        other.stop()
        other.join()

        assert stalls == []
        held_check.released.set()
        eventually(lambda: fresh(row).state == "done")

    def test_the_command_ends_with_its_own_exit_code_and_the_stacks(
        self,
        start_process: Start,
        eventually: Eventually,
        table_locked: Callable[[Any], TableLocker],
    ) -> None:
        row = due_again_and_again()
        process = start_process(
            "runstator", "tests.Trouble", "--poll-interval=0.1", FSMWORKER_WATCHDOG_INTERVAL="1"
        )
        eventually(caught_up, 60)

        with table_locked(row):
            assert process.wait(40) == 4

        assert "CRITICAL The main loop has not come round for 1 s" in process.stderr
        assert "stator_runner.py" in process.stderr
        assert "most recent call first" in process.stderr


class TestAbandonedThreads:
    def test_their_slots_are_filled_and_the_reason_is_on_record_at_once(
        self,
        start_runner: Callable[..., Embedded],
        eventually: Eventually,
        mode: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        released = threading.Event()
        mode("stuck", lambda row: released.wait())
        monkeypatch.setattr(TroubleStates.patient, "deadline", 0.2)  # theirs, and not the others'
        stuck = [Trouble.objects.create(mode="stuck", state="patient") for _ in range(2)]
        runner = start_runner(Trouble, concurrency=2, abandon_after=0.1)
        try:
            eventually(lambda: all(failure(row) for row in stuck), 30)
            good = [Trouble.objects.create() for _ in range(5)]
            eventually(lambda: set(states(good)) == {"done"}, 30)

            for row in stuck:
                assert "did not end within its deadline" in reason(row)
                held = fresh(row)
                assert held.state_claim is not None, "it stays leased while it is seen to run"
            assert not runner.runner.too_many_abandoned
        finally:
            released.set()
        eventually(lambda: all(fresh(row).state_failures == 1 for row in stuck))

    @pytest.mark.once
    def test_too_many_of_them_end_the_command_with_its_own_exit_code(
        self, start_process: Start
    ) -> None:
        stuck = [Trouble.objects.create(mode="sleep", value=60) for _ in range(3)]
        good = [Trouble.objects.create() for _ in range(5)]
        process = start_process(
            "runstator",
            "tests.Trouble",
            "--concurrency=4",
            "--deadline=1",
            "--drain-timeout=0.5",
            FSMWORKER_MAX_ABANDONED="2",
        )

        assert process.wait(60) == 3

        assert (
            "More than 2 checks did not end and hold their threads; "
            "the runner ends so that its supervisor starts a fresh one." in process.stderr
        )
        assert set(states(good)) == {"done"}
        for row in stuck:
            freed = fresh(row)
            assert (freed.state, freed.state_failures, freed.state_claim) == ("new", 1, None)
            assert "did not end within its deadline" in reason(row)


class TestLiveness:
    def test_the_file_is_touched_while_there_is_progress(
        self, start_runner: Callable[..., Embedded], eventually: Eventually, tmp_path: Path
    ) -> None:
        file = tmp_path / "alive"

        start_runner(Trouble, liveness_file=str(file))

        eventually(file.exists)

    def test_it_is_touched_once_in_ten_seconds(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file, now = tmp_path / "alive", time.monotonic()
        monkeypatch.setattr("django_fsmworker.runner.main_loop.time.monotonic", lambda: now)
        liveness = Liveness(str(file))

        for seconds, touched in [(0, True), (5, False), (4.9, False), (0.2, True)]:
            now += seconds
            file.unlink(missing_ok=True)
            liveness.touch()
            assert file.exists() is touched

    @pytest.mark.sqlite  # where a trigger that refuses is one statement
    def test_it_is_not_touched_while_due_rows_cannot_be_claimed(
        self,
        start_runner: Callable[..., Embedded],
        eventually: Eventually,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("django_fsmworker.runner.claiming.claimer.LONGEST_STUCK", 0.05)
        monkeypatch.setattr("django_fsmworker.runner.main_loop.TOUCH_INTERVAL", 0.0)
        touched: list[bool] = []

        def silent() -> bool:
            before, rounds = len(touched), runner.runner.rounds
            eventually(lambda: runner.runner.rounds > rounds + 2)
            return len(touched) == before

        row = Trouble.objects.create()
        execute(
            "CREATE TRIGGER no_claim BEFORE UPDATE ON tests_trouble FOR EACH ROW "
            "WHEN NEW.state_claim IS NOT NULL BEGIN SELECT RAISE(ABORT, 'no claim'); END"
        )
        try:
            runner = start_runner(Trouble, on_progress=lambda: touched.append(True))
            eventually(silent)
        finally:
            execute("DROP TRIGGER no_claim")

        eventually(lambda: fresh(row).state == "done")
        before = len(touched)
        eventually(lambda: len(touched) > before)

    def test_a_file_that_cannot_be_touched_is_said_and_ends_nothing(
        self,
        start_runner: Callable[..., Embedded],
        eventually: Eventually,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        file = tmp_path / "missing" / "alive"
        row = Trouble.objects.create()

        runner = start_runner(Trouble, liveness_file=str(file))

        eventually(lambda: fresh(row).state == "done")
        said = f"The liveness file {file} cannot be touched ("
        eventually(lambda: any(text.startswith(said) for text in caplog.messages))
        assert runner.alive
