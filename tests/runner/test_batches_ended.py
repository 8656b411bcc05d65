"""Batches that are ended from outside: deadlines, cancelling, a stop, a database that goes away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from django_fsmworker import clock
from django_fsmworker.models.records import FailureRecord
from tests.app.models import Letter
from tests.runner.embedded import Embedded
from tests.runner.rows import due_in, failure, fresh, path, reason, states
from tests.runner.scripted_check import STATES, ScriptedCheck
from tests.runner.server import Server

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]

OVERRAN = "django_fsmworker.exceptions.TimeoutError: The check did not end within its deadline; "


@pytest.fixture(params=STATES)
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    script = ScriptedCheck(request.param, monkeypatch)
    yield script
    script.open.set()


def keys(rows: list[Letter]) -> list[int]:
    return [row.pk for row in rows]


def free_and_unharmed(row: Letter) -> None:
    now = fresh(row)
    assert (now.state_claim, now.state_lease, now.state_failures) == (None, None, 0)
    assert due_in(row) <= 0
    assert failure(row) is None


@pytest.mark.once
class TestDeadlines:
    def test_the_row_that_takes_too_long_is_found_and_the_others_are_done(
        self,
        script: ScriptedCheck,
        start_runner: Start,
        eventually: Eventually,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        script.takes = lambda rows: max(row.pause for row in rows)
        rows = [*script.letters(2), *script.letters(1, pause=60), *script.letters(1)]
        slow = rows[2]
        runner = start_runner(Letter, deadline=1)

        eventually(lambda: fresh(slow).state_failures == 1)
        eventually(lambda: states(rows).count("done") == 3)

        assert reason(slow).startswith(OVERRAN)
        assert 50 < due_in(slow) <= 60
        assert [each.row for each in FailureRecord.objects.all()] == [str(slow.pk)]
        eventually(lambda: (runner.total("overran"), runner.total("moved")) == (1, 3))
        assert runner.total("interrupted") == 0
        assert sorted(script.sizes, reverse=True) == [4, 2, 2, 1, 1]
        assert (
            f"The check of tests.Letter {rows[0].pk} and 3 more in the state {script.state} "
            f"overran its deadline." in caplog.messages
        )
        assert not [each for each in caplog.messages if "came to nothing" in each]

    def test_the_runner_goes_on_at_full_strength(
        self, script: ScriptedCheck, start_runner: Start, eventually: Eventually
    ) -> None:
        script.takes = lambda rows: max(row.pause for row in rows)
        bad = script.letters(3, pause=60)
        runner = start_runner(Letter, deadline=0.5, **{script.concurrency: 2})
        eventually(lambda: all(fresh(row).state_failures for row in bad))

        good = script.letters(50)

        eventually(lambda: set(states(good)) == {"done"})
        if script.kind == "plain":
            eventually(lambda: runner.working_threads() == 2)
        assert runner.alive

    def test_each_call_has_the_whole_deadline(
        self, script: ScriptedCheck, start_runner: Start, eventually: Eventually
    ) -> None:
        def takes(rows: list[Letter]) -> float:
            if len(rows) == 8:
                return 60
            # Those who began with the first call would have overrun long since.
            runner.runner.parts.deadlines.look_again()
            return 0.1

        script.takes = takes
        rows = script.letters(8)
        runner = start_runner(Letter, deadline=1.5)

        eventually(lambda: set(states(rows)) == {"done"})

        assert script.sizes == [8, 4, 4]
        assert not FailureRecord.objects.exists()

    def test_what_an_overrun_call_returns_does_not_count(
        self, script: ScriptedCheck, start_runner: Start, eventually: Eventually
    ) -> None:
        def answer(rows: list[Letter]) -> str:
            while len(rows) > 1 and not runner.has_overrun():
                try:
                    time.sleep(0.01)
                except BaseException:
                    continue
            return "failed" if len(rows) > 1 else "done"

        script.on_a_thread = True
        script.answer = answer
        rows = script.letters(2)
        runner = start_runner(Letter, deadline=0.2, abandon_after=5)

        eventually(lambda: set(states(rows)) == {"done"})

        assert [path(row) for row in rows] == [[script.state, "done"]] * 2


@pytest.mark.once
class TestAbandoned:
    def test_all_its_rows_stay_leased_until_it_ends(
        self, script: ScriptedCheck, start_runner: Start, eventually: Eventually
    ) -> None:
        def swallow(rows: list[Letter]) -> str:
            while len(rows) > 1 and not released.is_set():
                try:
                    time.sleep(0.01)
                except BaseException:
                    continue
            return "done"

        released = threading.Event()
        script.on_a_thread = True
        script.answer = swallow
        rows = script.letters(4)
        runner = start_runner(
            Letter, deadline=0.2, abandon_after=0.1, lease=4, **{script.concurrency: 1}
        )
        executor = "threads" if script.kind == "plain" else "event_loop"
        try:
            eventually(lambda: getattr(runner.runner.status(), executor).abandoned == 1)
            until = max(fresh(row).state_lease for row in rows)
            others = script.letters(1)
            eventually(lambda: states(others) == ["done"])
            eventually(lambda: all(fresh(row).state_lease > until for row in rows))

            assert Letter.objects.running().count() == 4
            eventually(lambda: all(failure(row) for row in rows))
            assert "The check of 4 rows did not end within its deadline" in reason(rows[0])
            assert {fresh(row).state_failures for row in rows} == {0}
        finally:
            released.set()

        eventually(lambda: set(states(rows)) == {"done"})
        eventually(lambda: not FailureRecord.objects.filter(resolved=None).exists())
        eventually(lambda: getattr(runner.runner.status(), executor).abandoned == 0)
        assert runner.total("superseded") == 0

    def test_a_row_that_has_moved_on_is_not_noted(
        self, script: ScriptedCheck, start_runner: Start, eventually: Eventually
    ) -> None:
        def swallow(rows: list[Letter]) -> str:
            while not released.is_set():
                try:
                    time.sleep(0.01)
                except BaseException:
                    continue
            return "done"

        released = threading.Event()
        script.on_a_thread = True
        script.answer = swallow
        rows = script.letters(3)
        runner = start_runner(Letter, deadline=60, abandon_after=0.1)
        try:
            eventually(lambda: script.calls)
            rows[1].state_transition("waiting")
            runner.look_for_revoked(Letter)
            eventually(lambda: runner.total("superseded") == 1)
            runner.overrun()

            eventually(lambda: failure(rows[0]) and failure(rows[2]))

            assert failure(rows[1]) is None
        finally:
            released.set()


class TestCancelled:
    def test_one_row_that_moves_ends_no_call_and_its_result_is_dropped(
        self, script: ScriptedCheck, start_runner: Start, eventually: Eventually
    ) -> None:
        script.open.clear()
        rows = script.letters(5)
        runner = start_runner(Letter, deadline=60)
        eventually(lambda: script.calls)

        rows[2].state_transition("waiting")
        runner.look_for_revoked(Letter)
        eventually(lambda: runner.total("superseded") == 1)
        script.open.set()

        eventually(lambda: states(rows) == ["done", "done", "waiting", "done", "done"])
        assert path(rows[2]) == [script.state, "waiting"]
        assert script.calls == [keys(rows)]
        eventually(lambda: (runner.total("moved"), runner.total("interrupted")) == (4, 0))
        assert runner.total("superseded") == 1

    def test_a_row_that_is_deleted_stays_deleted(
        self, script: ScriptedCheck, start_runner: Start, eventually: Eventually
    ) -> None:
        script.open.clear()
        rows = script.letters(3)
        runner = start_runner(Letter)
        eventually(lambda: script.calls)

        Letter.objects.filter(pk=rows[1].pk).delete()
        script.open.set()

        eventually(lambda: runner.total("superseded") == 1)
        eventually(lambda: runner.total("moved") == 2)
        assert sorted(Letter.objects.values_list("pk", flat=True)) == [rows[0].pk, rows[2].pk]

    def test_once_all_have_moved_the_call_is_ended(
        self,
        script: ScriptedCheck,
        start_runner: Start,
        eventually: Eventually,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        script.open.clear()
        rows = script.letters(3)
        runner = start_runner(Letter, deadline=60)
        eventually(lambda: script.calls)

        rows[0].state_transition("waiting")
        runner.look_for_revoked(Letter)
        eventually(lambda: runner.total("superseded") == 1)
        assert not [each for each in caplog.messages if "was cancelled" in each]
        Letter.state_transition_queryset(Letter.objects.filter(pk__in=keys(rows)), "waiting")
        runner.look_for_revoked(Letter)

        told = (
            f"The check of tests.Letter {rows[0].pk} and 2 more in the state {script.state} "
            f"was cancelled."
        )
        eventually(lambda: told in caplog.messages)
        eventually(lambda: runner.total("superseded") == 3)
        assert [path(row)[-1] for row in rows] == ["waiting"] * 3
        assert not FailureRecord.objects.exists()

    def test_a_row_that_moved_while_its_batch_waited_is_left_out(
        self, script: ScriptedCheck, start_runner: Start, eventually: Eventually
    ) -> None:
        script.open.clear()
        first, second = script.letters(20), script.letters(20)
        runner = start_runner(Letter, deadline=60, **{script.concurrency: 1})
        eventually(lambda: Letter.objects.running().count() == 40)
        eventually(lambda: script.calls)

        second[7].state_transition("waiting")
        runner.look_for_revoked(Letter)
        eventually(lambda: runner.total("superseded") == 1)
        script.open.set()

        eventually(lambda: states(first + second).count("done") == 39)
        assert script.calls == [keys(first), [row.pk for row in second if row is not second[7]]]


class TestLeases:
    def test_a_long_call_keeps_the_leases_of_all_its_rows(
        self, script: ScriptedCheck, start_runner: Start, eventually: Eventually
    ) -> None:
        script.open.clear()
        rows = script.letters(5)
        # Whoever is stopped for longer than a lease loses his rows to the other.
        first = start_runner(Letter, lease=4)
        eventually(lambda: script.calls)
        claimed = [fresh(row) for row in rows]
        second = start_runner(Letter, lease=4)

        until = max(row.state_lease for row in claimed)
        eventually(lambda: clock.now() > until)
        held = [fresh(row) for row in rows]
        script.open.set()
        eventually(lambda: set(states(rows)) == {"done"})

        assert script.calls == [keys(rows)]
        for before, after in zip(claimed, held, strict=True):
            assert after.state_claim == before.state_claim
            assert after.state_lease > before.state_lease
        assert (first.total("superseded"), second.total("moved")) == (0, 0)

    @pytest.mark.postgresql
    @pytest.mark.mysql
    def test_a_row_whose_lease_cannot_be_renewed_holds_up_no_others(
        self,
        script: ScriptedCheck,
        start_runner: Start,
        eventually: Eventually,
        locked: Callable[[Any], Any],
    ) -> None:
        script.open.clear()
        first, second = script.letters(20), script.letters(20)
        start_runner(Letter, lease=3, deadline=60, **{script.concurrency: 1})
        eventually(lambda: Letter.objects.running().count() == 40)
        eventually(lambda: script.calls)

        with locked(second[3]):
            eventually(lambda: second[3] not in Letter.objects.running())
            script.open.set()
            eventually(lambda: states(second).count("done") == 19)
        eventually(lambda: set(states(first + second)) == {"done"})

        assert sorted(script.sizes) == [1, 19, 20]


@pytest.mark.once
class TestStopping:
    def test_a_drain_that_takes_too_long_hands_all_rows_back(
        self, script: ScriptedCheck, start_runner: Start, eventually: Eventually
    ) -> None:
        script.open.clear()
        rows = script.letters(40)
        runner = start_runner(Letter, drain_timeout=0.3, **{script.concurrency: 1})
        eventually(lambda: Letter.objects.running().count() == 40)
        eventually(lambda: script.calls)

        runner.stop()

        assert script.sizes == [20], "the other batch was not started"
        for row in rows:
            free_and_unharmed(row)
        assert (runner.total("interrupted"), runner.total("superseded")) == (40, 0)

    def test_what_runs_may_end(
        self, script: ScriptedCheck, start_runner: Start, eventually: Eventually
    ) -> None:
        script.open.clear()
        rows = script.letters(10)
        runner = start_runner(Letter)
        eventually(lambda: script.calls)

        runner.runner.stop()
        eventually(runner.is_draining)
        script.open.set()
        runner.stop()

        assert set(states(rows)) == {"done"}

    def test_halves_are_not_begun_any_more(
        self, script: ScriptedCheck, start_runner: Start, eventually: Eventually
    ) -> None:
        def tear(rows: list[Letter]) -> None:
            raise RuntimeError

        script.open.clear()
        script.answer = tear
        rows = script.letters(10)
        runner = start_runner(Letter)
        eventually(lambda: script.calls)

        runner.runner.stop()
        eventually(runner.is_draining)
        script.open.set()
        runner.stop()

        assert script.sizes == [10]
        for row in rows:
            free_and_unharmed(row)


class TestConnections:
    def test_a_transaction_left_open_fails_the_row_that_does_it(
        self, script: ScriptedCheck, start_runner: Start, eventually: Eventually
    ) -> None:
        from django.db import connection

        def leave_open(rows: list[Letter]) -> str:
            if any(row.value for row in rows):
                connection.set_autocommit(False)
                Letter.objects.filter(pk__in=keys(rows)).update(value=99)
            return "done"

        script.on_a_thread = True
        script.answer = leave_open
        rows = [*script.letters(5), *script.letters(1, value=1)]
        start_runner(Letter)

        eventually(lambda: fresh(rows[-1]).state_failures == 1)
        eventually(lambda: states(rows).count("done") == 5)

        assert reason(rows[-1]).startswith("django_fsmworker.exceptions.TransactionLeftOpen: ")
        assert [fresh(row).value for row in rows] == [0] * 5 + [1]

    @pytest.mark.postgresql
    @pytest.mark.mysql
    def test_a_connection_that_ends_is_an_interruption_and_the_rows_run_alone_next(
        self, script: ScriptedCheck, start_runner: Start, eventually: Eventually, server: Server
    ) -> None:
        from django.db import connection

        def end(rows: list[Letter]) -> str:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                if len(script.calls) == 1:
                    cursor.execute(server.end_this_connection)
            return "done"

        script.on_a_thread = True
        script.answer = end
        rows = script.letters(5)
        runner = start_runner(Letter)

        eventually(lambda: set(states(rows)) == {"done"})

        assert sorted(script.sizes) == [1, 1, 1, 1, 1, 5]
        assert not FailureRecord.objects.exists()
        assert runner.total("failed") == 0
        later = script.letters(5)
        eventually(lambda: set(states(later)) == {"done"})
        assert script.sizes[-1] == 5, "together again"

    @pytest.mark.postgresql
    @pytest.mark.mysql
    def test_a_row_that_ends_its_connection_again_and_again_fails_alone(
        self, script: ScriptedCheck, start_runner: Start, eventually: Eventually, server: Server
    ) -> None:
        from django.db import connection

        def end(rows: list[Letter]) -> str:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                if any(row.value for row in rows):
                    cursor.execute(server.end_this_connection)
            return "done"

        script.on_a_thread = True
        script.answer = end
        rows = [*script.letters(5), *script.letters(1, value=1)]
        start_runner(Letter)

        eventually(lambda: fresh(rows[-1]).state_failures == 1)
        eventually(lambda: states(rows).count("done") == 5)

        assert [each.row for each in FailureRecord.objects.all()] == [str(rows[-1].pk)]
