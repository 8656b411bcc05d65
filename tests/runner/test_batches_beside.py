"""Batches beside each other and beside everything else: how many, who comes next, what goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from django_fsmworker.exceptions import TryAgainLater
from django_fsmworker.models.records import FailureRecord, StatorLog
from django_fsmworker.store import STORES
from tests.app.models import Errand, Letter, LetterStates, Trouble
from tests.app.models.errands import ERRANDS
from tests.app.models.letters import CHECKS
from tests.runner.embedded import Embedded, one_pass
from tests.runner.rows import fresh, path, states
from tests.runner.scripted_check import STATES, ScriptedCheck
from tests.runner.statement_log import statements

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]


@pytest.fixture(params=STATES)
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    script = ScriptedCheck(request.param, monkeypatch)
    yield script
    script.open.set()


class TestHowMany:
    def test_threads_get_full_batches_from_the_first_claim_on(
        self, script: ScriptedCheck, start_runner: Start, eventually: Eventually
    ) -> None:
        script.open.clear()
        script.letters(200)

        start_runner(Letter, **{script.concurrency: 3})
        eventually(lambda: len(script.calls) == 3)

        assert script.sizes == [20] * 3
        # As many batches again wait.
        eventually(lambda: Letter.objects.running().count() == 120)

    def test_a_model_s_cap_counts_calls(
        self, script: ScriptedCheck, start_runner: Start, eventually: Eventually
    ) -> None:
        script.open.clear()
        rows = script.letters(100)
        start_runner(Letter, concurrency=5, concurrency_per_model=2)
        eventually(lambda: len(script.calls) == 2)
        eventually(lambda: Letter.objects.running().count() == 80)
        running = len(script.calls)
        script.open.set()

        eventually(lambda: set(states(rows)) == {"done"})

        assert script.sizes == [20] * 5
        assert running == 2

    def test_no_more_rows_are_held_than_max_in_flight(
        self, script: ScriptedCheck, start_runner: Start, eventually: Eventually
    ) -> None:
        script.open.clear()
        script.letters(300)
        most = 0

        def held() -> int:
            nonlocal most
            number = Letter.objects.running().count()
            most = max(most, number)
            return number

        start_runner(Letter, max_in_flight=30, **{script.concurrency: 4})
        eventually(lambda: held() >= 20)
        script.open.set()
        eventually(lambda: not held() and not Letter.objects.exclude(state="done").exists())

        assert most <= 30

    def test_no_batch_is_larger_than_a_claim(self, script: ScriptedCheck) -> None:
        script.letters(30)

        one_pass(Letter, claim_batch=8)

        assert max(script.sizes) == 8

    def test_statements_are_per_batch_not_per_row(self, script: ScriptedCheck, vendor: str) -> None:
        script.letters(2000)

        with statements() as sent:
            one_pass(Letter)

        assert not Letter.objects.exclude(state="done").exists()
        # Measured: 9 to 14 claims and settlings on PostgreSQL, 4 to 18 statements on SQLite, 50 to
        # 83 on MariaDB. On a machine that is busy enough each call of the check may have a claim
        # and a settling of its own, of one statement each, or of five and four on MariaDB. What
        # else a start asks PostgreSQL grows with the tables there are.
        number = len(sent.starting_with("WITH")) if vendor == "postgresql" else len(sent)
        calls = len(script.calls)
        most = calls * {"mysql": 9, "postgresql": 2, "sqlite": 2}[vendor] + 50
        assert calls < 200
        assert number < most, f"{number} statements for 2,000 rows"


@pytest.mark.once
class TestTurns:
    def test_another_model_does_not_wait_for_many_batches(
        self, script: ScriptedCheck, start_runner: Start, eventually: Eventually
    ) -> None:
        def again(rows: list[Letter]) -> None:
            raise TryAgainLater(0)

        script.takes = lambda rows: 0.02
        script.answer = again  # so there are always some that wait
        script.letters(500)
        start_runner(Letter, Trouble, Errand, concurrency=2, async_concurrency=2)
        eventually(lambda: script.calls)

        others = [*Trouble.objects.bulk_create(Trouble() for _ in range(10))]
        errands = [*Errand.objects.bulk_create(Errand() for _ in range(10))]

        eventually(lambda: set(states(others)) == set(states(errands)) == {"done"})

    def test_halves_do_not_keep_a_thread_from_others(
        self,
        script: ScriptedCheck,
        start_runner: Start,
        eventually: Eventually,
        mode: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        ran: list[int] = []

        def tear(rows: list[Letter]) -> None:
            if len(script.calls) == 2:  # others come up, and are known before the next halves
                Trouble.objects.create(mode="note")
                Errand.objects.create(mode="note")
                known = runner.runner.rounds + 3
                eventually(lambda: runner.runner.rounds > known)
            raise RuntimeError

        def note(row: Any) -> str:
            ran.append(len(script.calls))
            return "done"

        async def note_too(row: Errand) -> str:
            return note(row)

        mode("note", note)
        monkeypatch.setitem(ERRANDS, "note", note_too)
        script.takes = lambda rows: 0.02
        script.on_a_thread = True
        script.answer = tear
        bad = script.letters(20)
        runner = start_runner(Letter, Trouble, Errand, concurrency=1, async_concurrency=1)
        eventually(lambda: all(fresh(row).state_failures for row in bad))
        eventually(lambda: len(ran) == 2)

        assert max(ran) < 39
        assert len(script.calls) == 39, "20, its halves, and so on until each stands alone"


class TestGoingOn:
    @pytest.fixture
    def claims(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """How many rows each claim of a store brought."""
        brought: list[int] = []

        def counting(claim: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
            def counted(*arguments: Any) -> list[Any]:
                rows = claim(*arguments)
                brought.append(len(rows))
                return rows

            return counted

        for store in STORES.values():
            monkeypatch.setattr(store, "claim", counting(store.claim))
        return brought

    def test_not_into_a_state_with_batches(
        self,
        start_runner: Start,
        eventually: Eventually,
        claims: list[int],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        plain, flying = ScriptedCheck("plain", monkeypatch), ScriptedCheck("async", monkeypatch)
        plain.answer = lambda rows: "flying"
        rows = plain.letters(20)

        start_runner(Letter)
        eventually(lambda: set(states(rows)) == {"done"})

        assert sum(claims) == 40
        assert sum(flying.sizes) == 20
        assert path(rows[0]) == ["new", "flying", "done"]

    def test_rows_go_on_out_of_a_batch_one_by_one(
        self,
        start_runner: Start,
        eventually: Eventually,
        claims: list[int],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        async def fly(row: list[Letter] | Letter) -> str:
            return "done"

        plain = ScriptedCheck("plain", monkeypatch)
        plain.answer = lambda rows: "flying"
        monkeypatch.setattr(LetterStates.flying, "batch", None)
        monkeypatch.setitem(CHECKS, "flying", fly)
        rows = plain.letters(20)

        start_runner(Letter)
        eventually(lambda: set(states(rows)) == {"done"})

        assert sum(claims) == 20


@pytest.mark.once
class TestBlockedLoop:
    def test_a_batch_that_blocks_the_loop_is_named_and_its_rows_run_again_in_halves(
        self,
        start_runner: Start,
        eventually: Eventually,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def block(rows: list[Letter]) -> str:
            end = time.monotonic() + 60
            while any(row.value for row in rows) and time.monotonic() < end:
                pass
            return "done"

        script = ScriptedCheck("async", monkeypatch)
        script.answer = block
        rows = [*script.letters(3), *script.letters(1, value=1)]
        start_runner(Letter, deadline=0.5, abandon_after=0.3)

        eventually(lambda: fresh(rows[-1]).state_failures == 1)
        eventually(lambda: states(rows).count("done") == 3)

        assert sorted(script.sizes, reverse=True) == [4, 2, 2, 1, 1]
        assert [each.row for each in FailureRecord.objects.all()] == [str(rows[-1].pk)]
        told = [each for each in caplog.messages if "The event loop gave no sign" in each]
        assert f"tests.Letter {rows[0].pk} and 3 more blocks it at " in told[0]

    def test_a_batch_beside_is_handed_back_as_a_whole(
        self, start_runner: Start, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def block(rows: list[Letter]) -> str:
            if rows[0].value:
                while not calls:
                    await asyncio.sleep(0)
                end = time.monotonic() + 60
                while time.monotonic() < end:
                    pass
            calls.append(sorted(row.pk for row in rows))
            if len(calls) == 1:
                await asyncio.sleep(60)
            return "done"

        calls: list[list[int]] = []
        monkeypatch.setitem(CHECKS, "flying", block)
        beside = Letter.objects.bulk_create(Letter(state="flying") for _ in range(20))
        # It has failed before, and so it shares its call with no other.
        (bad,) = Letter.objects.bulk_create([Letter(state="flying", value=1, state_failures=1)])
        runner = start_runner(Letter, deadline=0.5, abandon_after=0.3)

        eventually(lambda: fresh(bad).state_failures == 2)
        eventually(lambda: set(states(beside)) == {"done"})

        keys = [row.pk for row in beside]
        assert calls == [keys, keys], "interrupted, and run once more"
        assert runner.total("interrupted") == 20
        assert FailureRecord.objects.count() == 1


def test_rows_are_counted_one_by_one(script: ScriptedCheck) -> None:
    script.answer = lambda rows: [
        "done" if row.value == 0 else None if row.value == 1 else ValueError("no") for row in rows
    ]
    script.letters(5)
    script.letters(4, value=1)
    script.letters(3, value=2)

    runner = one_pass(Letter)

    totals = [runner.counters.total(name) for name in ("moved", "stayed", "failed")]
    assert totals == [5, 4, 3]
    log = StatorLog.objects.get()
    assert (log.moved, log.stayed, log.failed) == (5, 4, 3)
