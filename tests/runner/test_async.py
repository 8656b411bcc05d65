"""``async def`` checks: what they return and raise, how many run at once, how they are ended."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from django_fsmworker import clock
from django_fsmworker.async_resources import per_loop
from django_fsmworker.exceptions import TryAgainLater
from django_fsmworker.models.records import FailureRecord
from django_fsmworker.runner import StatorRunner
from django_fsmworker.store.failures import count_deaths
from django_fsmworker.testing import run_until_idle
from django_fsmworker.thread_starter import prepare_to_start_threads
from tests.app.models import Errand, Trouble
from tests.app.models.errands import ERRANDS, PLAIN
from tests.runner.embedded import QUICK, Embedded, one_pass
from tests.runner.rows import due_in, failure, fresh, lapse, reason, states

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]
Errands = Callable[..., None]

OVERRAN = "django_fsmworker.exceptions.TimeoutError: The check did not end within its deadline; "


@pytest.fixture
def errand(monkeypatch: pytest.MonkeyPatch) -> Errands:
    """``errand(name, check)``: rows of Errand with this mode await ``check(row)``."""

    def define(name: str, check: Callable[[Errand], Awaitable[Any]]) -> None:
        monkeypatch.setitem(ERRANDS, name, check)

    return define


def errands(number: int, mode: str = "succeed", **values: Any) -> list[Errand]:
    rows = [Errand(mode=mode, **values) for _ in range(number)]
    return Errand.objects.bulk_create(rows)


class Crowd:
    """Counts the checks that run at once, and lets them wait, at first until ``many`` do."""

    def __init__(self, pause: float, many: int = 0) -> None:
        self._pause = pause
        self._many = many
        self.now = self.most = self.in_all = 0
        self.released = threading.Event()
        self.released.set()

    async def __call__(self, row: Errand) -> str:
        self.now += 1
        self.in_all += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self._pause)
            while self.most < self._many or not self.released.is_set():
                await asyncio.sleep(0.005)
        finally:
            self.now -= 1
        return "done"


class Resource:
    """Something that belongs to a loop."""

    closed = False

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed = True


@pytest.fixture
def patient(errand: Errands) -> Crowd:
    """Rows with the mode ``patient`` wait for a minute."""
    crowd = Crowd(60)
    errand("patient", crowd)
    return crowd


class TestOutcomes:
    def test_a_state_that_is_returned(self) -> None:
        rows = errands(20)

        runner = one_pass(Errand)

        assert set(states(rows)) == {"done"}
        assert runner.counters.total("moved") == 20

    def test_all_run_on_one_loop(self, errand: Errands) -> None:
        seen = set()

        async def look(row: Errand) -> None:
            seen.add((threading.current_thread().name, asyncio.get_running_loop()))

        errand("look", look)
        errands(20, "look")

        one_pass(Errand)

        assert [name for name, _ in seen] == ["fsmworker-loop-1"]

    def test_a_check_that_returns_nothing_leaves_the_row(self, errand: Errands) -> None:
        async def stay(row: Errand) -> None: ...

        errand("stay", stay)
        (row,) = errands(1, "stay")

        one_pass(Errand)

        assert (fresh(row).state, fresh(row).state_failures) == ("new", 0)
        assert 50 < due_in(row) <= 60

    def test_try_again_later_is_no_failure(self, errand: Errands) -> None:
        async def later(row: Errand) -> None:
            raise TryAgainLater(timedelta(minutes=10))

        errand("later", later)
        (row,) = errands(1, "later")

        one_pass(Errand)

        assert (fresh(row).state, fresh(row).state_failures) == ("new", 0)
        assert 590 < due_in(row) <= 600
        assert failure(row) is None

    @pytest.mark.parametrize(
        ("error", "told"),
        [
            (ValueError("no"), "ValueError: no"),
            (SystemExit(1), "SystemExit: 1"),
            (KeyboardInterrupt(), "KeyboardInterrupt: "),
            (asyncio.CancelledError(), "asyncio.exceptions.CancelledError: "),
            (StopAsyncIteration("over"), "StopAsyncIteration: over"),
        ],
    )
    def test_what_it_raises_is_recorded(
        self, errand: Errands, error: BaseException, told: str
    ) -> None:
        async def fail(row: Errand) -> None:
            await asyncio.sleep(0)
            raise error

        errand("fail", fail)
        rows = errands(3, "fail") + errands(3)

        one_pass(Errand)

        assert states(rows) == ["new"] * 3 + ["done"] * 3
        for row in rows[:3]:
            assert reason(row) == told
            assert (fresh(row).state_failures, fresh(row).state_claim) == (1, None)
            assert 50 < due_in(row) <= 60

    def test_what_it_may_not_return_is_recorded(self, errand: Errands) -> None:
        async def wrong(row: Errand) -> str:
            return "failed" if row.value else "nirvana"

        errand("wrong", wrong)
        rows = [*errands(1, "wrong"), *errands(1, "wrong", value=1)]

        one_pass(Errand)

        assert reason(rows[0]).startswith(
            "django_fsmworker.exceptions.UnknownState: 'nirvana' is not a state of ErrandStates; "
        )
        assert states(rows) == ["new", "failed"], "fails_to is declared"

    def test_an_error_in_a_task_that_it_started_ends_no_loop(self, errand: Errands) -> None:
        async def start(row: Errand) -> str:
            task = asyncio.create_task(leave())
            await asyncio.wait([task])
            return "done" if isinstance(task.exception(), SystemExit) else "failed"

        async def leave() -> None:
            raise SystemExit(3)

        errand("start", start)
        rows = errands(3, "start")

        one_pass(Errand)

        assert set(states(rows)) == {"done"}

    def test_three_failures_lead_to_the_failure_state(self, errand: Errands) -> None:
        async def fail(row: Errand) -> None:
            raise ValueError

        errand("fail", fail)
        (row,) = errands(1, "fail", state_failures=2)

        one_pass(Errand)

        assert fresh(row).state == "failed"

    def test_unsaved_fields_are_told_of_in_debug(
        self, errand: Errands, settings: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def forget(row: Errand) -> None:
            row.value = 7

        settings.DEBUG = True
        errand("forget", forget)
        (row,) = errands(1, "forget")

        one_pass(Errand)

        assert (
            f"ErrandStates.check_new left value of tests.Errand {row.pk} unsaved; "
            f"call save() before the check returns." in caplog.messages
        )


class TestSyncChecksThatAreAsync:
    def test_a_coroutine_that_a_plain_check_returns_is_a_failure(
        self, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
    ) -> None:
        async def forgotten() -> str:
            return "done"

        monkeypatch.setitem(PLAIN, "forgotten", lambda row: forgotten())
        (row,) = errands(1, "forgotten", state="plain")

        one_pass(Errand)

        assert reason(row) == (
            "TypeError: ErrandStates.check_plain is no async def, but returned an awaitable "
            "(coroutine), which was not run; write it, and what decorates it, as async def."
        )
        assert not [each for each in recwarn if "never awaited" in str(each.message)]

    def test_a_future_is_a_failure_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Promise:
            def __await__(self) -> Any: ...

        monkeypatch.setitem(PLAIN, "promise", lambda row: Promise())
        (row,) = errands(1, "promise", state="plain")

        one_pass(Errand)

        assert "returned an awaitable (Promise), which was not run" in reason(row)


@pytest.mark.once
class TestAtOnce:
    def test_so_many_and_no_more(self, errand: Errands) -> None:
        crowd = Crowd(0.02, many=7)
        errand("crowd", crowd)
        rows = errands(60, "crowd")

        one_pass(Errand, async_concurrency=7)

        assert (crowd.most, crowd.in_all) == (7, 60)
        assert set(states(rows)) == {"done"}

    def test_a_model_s_cap_holds_for_both_kinds_together(self, errand: Errands) -> None:
        crowd = Crowd(0.01)
        errand("crowd", crowd)
        errands(20, "crowd")
        plain = errands(20, state="plain")

        one_pass(Errand, concurrency_per_model=2)

        assert crowd.most <= 2
        assert set(states(plain)) == {"done"}
        assert not Errand.objects.exclude(state="done").exists()

    def test_a_thousand_of_a_tenth_of_a_second(self, errand: Errands) -> None:
        crowd = Crowd(0.1)
        errand("crowd", crowd)
        errands(3000, "crowd")

        began, computed = time.monotonic(), time.process_time()
        one_pass(Errand, async_concurrency=1000)
        seconds, computed = time.monotonic() - began, time.process_time() - computed

        assert not Errand.objects.exclude(state="done").exists()
        # A loop that has too little of a processor takes on fewer than a thousand.
        assert 100 < crowd.most <= 1000
        # 5,000 a second were 0.6 s, of which half was computed, on a machine with nobody else. One
        # after the other they would take five minutes.
        assert computed < 3, f"{3000 / computed:.0f} for each second of a processor"
        assert seconds < 30, f"{3000 / seconds:.0f} a second"


class TestSideBySide:
    def test_slow_coroutines_delay_no_plain_check(
        self, start_runner: Start, eventually: Eventually, patient: Crowd
    ) -> None:
        errands(300, "patient")
        start_runner(Errand, async_concurrency=5, deadline=60)
        eventually(lambda: patient.now == 5)

        plain = errands(50, state="plain")

        eventually(lambda: set(states(plain)) == {"done"})
        assert patient.now == 5

    def test_slow_plain_checks_delay_no_coroutine(
        self, start_runner: Start, eventually: Eventually, held_check: Any
    ) -> None:
        Trouble.objects.bulk_create(Trouble(mode="held") for _ in range(300))
        start_runner(Trouble, Errand, concurrency=2, deadline=60)
        eventually(lambda: len(held_check.begun) == 2)

        rows = errands(50)

        eventually(lambda: set(states(rows)) == {"done"})
        assert len(held_check.begun) == 2

    def test_one_row_goes_from_one_kind_to_the_other(
        self, start_runner: Start, eventually: Eventually, errand: Errands
    ) -> None:
        async def on(row: Errand) -> str:
            row.mode = "succeed"
            await row.asave()
            return "plain"

        errand("on", on)
        rows = errands(10, "on")
        runner = start_runner(Errand)

        eventually(lambda: set(states(rows)) == {"done"})
        eventually(lambda: runner.total("moved") == 20)


@pytest.mark.once
class TestDeadlines:
    def test_a_check_that_overruns_is_cancelled(
        self, start_runner: Start, eventually: Eventually, errand: Errands
    ) -> None:
        seen: list[BaseException] = []

        async def sleep(row: Errand) -> str:
            try:
                await asyncio.sleep(60)
            except BaseException as error:
                seen.append(error)
                raise
            return "done"

        errand("sleep", sleep)
        bad, good = errands(5, "sleep"), errands(5)
        start_runner(Errand, async_concurrency=2, deadline=0.2)

        eventually(lambda: all(fresh(row).state_failures for row in bad))
        eventually(lambda: set(states(good)) == {"done"})

        for row in bad:
            assert reason(row).startswith(OVERRAN)
            assert (fresh(row).state, fresh(row).state_claim) == ("new", None)
            assert 50 < due_in(row) <= 60
        assert [type(error) for error in seen] == [asyncio.CancelledError] * 5

    def test_its_own_timeout_is_a_failure_like_others(self, errand: Errands) -> None:
        async def hurry(row: Errand) -> None:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)

        errand("hurry", hurry)
        (row,) = errands(1, "hurry")

        one_pass(Errand)

        assert reason(row) == "TimeoutError: "

    def test_what_it_returns_too_late_does_not_count(
        self, start_runner: Start, eventually: Eventually, errand: Errands
    ) -> None:
        async def swallow(row: Errand) -> str:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            return "done"

        errand("swallow", swallow)
        (row,) = errands(1, "swallow")
        start_runner(Errand, deadline=0.2)

        eventually(lambda: fresh(row).state_failures)

        assert fresh(row).state == "new"
        assert reason(row).startswith(OVERRAN)

    def test_one_that_goes_on_keeps_its_row_until_it_ends(
        self,
        start_runner: Start,
        eventually: Eventually,
        errand: Errands,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        released: list[bool] = []

        async def swallow(row: Errand) -> str:
            while not released:
                try:
                    await asyncio.sleep(0.02)
                except asyncio.CancelledError:
                    continue
            return "done"

        errand("swallow", swallow)
        (bad,) = errands(1, "swallow")
        runner = start_runner(Errand, async_concurrency=1, deadline=0.2, abandon_after=0.1)
        eventually(lambda: runner.runner.status().event_loop.abandoned == 1)
        good = errands(5)

        eventually(lambda: set(states(good)) == {"done"})
        eventually(lambda: failure(bad))
        assert fresh(bad).state_claim is not None, "it still runs"
        assert fresh(bad).state_failures == 0
        eventually(lambda: runner.runner.status().in_flight == 1)
        released.append(True)
        eventually(lambda: fresh(bad).state_failures == 1)

        assert reason(bad).startswith(OVERRAN)
        assert FailureRecord.objects.get(row=str(bad.pk)).count == 1
        eventually(lambda: runner.runner.status().event_loop.abandoned == 0)
        assert (
            f"The coroutine of tests.Errand {bad.pk} does not end; it is abandoned (1 so far)."
            in caplog.messages
        )

    def test_too_many_of_those_end_the_runner(
        self, start_runner: Start, eventually: Eventually, errand: Errands
    ) -> None:
        released: list[bool] = []

        async def swallow(row: Errand) -> str:
            while not released:
                try:
                    await asyncio.sleep(0.02)
                except asyncio.CancelledError:
                    continue
            return "done"

        errand("swallow", swallow)
        errands(3, "swallow")
        runner = start_runner(
            Errand, deadline=0.1, abandon_after=0.05, max_abandoned=2, drain_timeout=0.2
        )

        eventually(lambda: not runner.alive)

        released.append(True)
        assert runner.runner.too_many_abandoned

    def test_the_time_before_the_first_step_is_not_the_check_s(self, errand: Errands) -> None:
        """Checks that are begun together wait for one that has the loop before them."""
        seconds: list[float] = []
        blocked: list[bool] = []

        async def block_once(row: Errand) -> str:
            running = [work for each in executors for work in each.running()]
            (work,) = [work for work in running if work.pk == row.pk]
            assert work.started is not None
            seconds.append(time.monotonic() - work.started)
            if not blocked:
                blocked.append(True)
                time.sleep(1.5)
            return "done"

        errand("block_once", block_once)
        rows = errands(5, "block_once")

        runner = StatorRunner([Errand], **QUICK)
        executors = runner.parts.executors
        runner.run(run_for=0)

        assert set(states(rows)) == {"done"}
        assert max(seconds) < 1

    def test_the_time_in_line_for_a_thread_is_bounded(self, errand: Errands) -> None:
        """200 calls at once would wait for 10 s, the last ones, for one of four threads."""

        async def call(row: Errand) -> str:
            await sync_to_async(time.sleep)(0.2)
            return "done"

        errand("call", call)
        rows = errands(120, "call")

        one_pass(Errand, deadline=4)

        assert set(states(rows)) == {"done"}
        assert not FailureRecord.objects.exists()


@pytest.mark.once
class TestResources:
    """What ``per_loop()`` makes: one for all checks of a loop, closed when that ends."""

    def test_in_a_runner(self, errand: Errands) -> None:
        resource = per_loop(Resource)
        seen: list[Resource] = []

        async def look(row: Errand) -> str:
            await asyncio.sleep(0)
            assert not resource().closed
            seen.append(resource())
            return "done"

        errand("look", look)
        rows = errands(20, "look")

        one_pass(Errand)

        assert set(states(rows)) == {"done"}
        assert len(set(seen)) == 1
        assert seen[0].closed

    def test_in_the_test_kit(self, errand: Errands) -> None:
        resource = per_loop(Resource)
        seen: list[Resource] = []

        async def look(row: Errand) -> str:
            assert not any(each.closed for each in seen if each is resource())
            seen.append(resource())
            return "done"

        errand("look", look)
        errands(3, "look")

        assert run_until_idle(Errand) == 3

        assert len(set(seen)) == 3
        assert all(each.closed for each in seen)

    def test_when_a_loop_is_replaced(
        self, start_runner: Start, eventually: Eventually, errand: Errands
    ) -> None:
        resource = per_loop(Resource)
        seen: dict[str, Resource] = {}
        released = threading.Event()

        async def block_once(row: Errand) -> str:
            first = not seen
            seen.setdefault(threading.current_thread().name, resource())
            await asyncio.sleep(0.01)
            if first:
                released.wait(60)
            return "done"

        errand("block_once", block_once)
        errands(1, "block_once")
        runner = start_runner(Errand, deadline=0.6, abandon_after=0.1)
        eventually(lambda: runner.has_thread("fsmworker-loop-2"))
        errands(1, "block_once")
        eventually(lambda: len(seen) == 2)
        released.set()

        assert seen["fsmworker-loop-1"] is not seen["fsmworker-loop-2"]
        eventually(lambda: seen["fsmworker-loop-1"].closed)
        assert not seen["fsmworker-loop-2"].closed
        runner.stop()
        eventually(lambda: seen["fsmworker-loop-2"].closed)


class TestInterruptions:
    def test_a_drain_that_takes_too_long(
        self,
        start_runner: Start,
        eventually: Eventually,
        patient: Crowd,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        rows = errands(6, "patient")
        runner = start_runner(Errand, async_concurrency=3, drain_timeout=0.3)
        eventually(lambda: patient.now == 3 and runner.runner.status().in_flight == 6)

        runner.stop()

        for row in rows:
            left = fresh(row)
            assert (left.state, left.state_failures, left.state_claim) == ("new", 0, None)
            assert due_in(row) <= 0
        assert patient.now == 0, "all were cancelled"
        assert patient.in_all == 3
        assert not FailureRecord.objects.exists()
        assert (runner.total("interrupted"), runner.total("superseded")) == (6, 0)
        assert (
            "3 checks did not end within the drain timeout of 0 s; they were interrupted."
            in caplog.messages
        )

    def test_what_runs_may_end(
        self, start_runner: Start, eventually: Eventually, errand: Errands
    ) -> None:
        crowd = Crowd(0)
        crowd.released.clear()
        errand("crowd", crowd)
        rows = errands(4, "crowd")
        runner = start_runner(Errand, drain_timeout=30)
        eventually(lambda: crowd.now == 4)

        runner.runner.stop()
        eventually(runner.is_draining)
        crowd.released.set()
        eventually(lambda: not runner.alive)

        assert set(states(rows)) == {"done"}

    def test_a_row_that_was_moved_meanwhile(
        self, start_runner: Start, eventually: Eventually, patient: Crowd
    ) -> None:
        (row,) = errands(1, "patient")
        runner = start_runner(Errand, deadline=60)
        eventually(lambda: patient.now == 1)

        fresh(row).state_transition("failed")
        runner.look_for_revoked(Errand)

        eventually(lambda: patient.now == 0)
        eventually(lambda: runner.total("superseded") == 1)
        assert (fresh(row).state, failure(row)) == ("failed", None)

    def test_leases_are_renewed(
        self, start_runner: Start, eventually: Eventually, errand: Errands
    ) -> None:
        crowd = Crowd(0)
        crowd.released.clear()
        errand("crowd", crowd)
        rows = errands(20, "crowd")
        runner = start_runner(Errand, lease=4)
        eventually(lambda: crowd.now == 20)
        ends = [fresh(row).state_lease for row in rows]

        eventually(lambda: all(fresh(row).state_lease > max(ends) for row in rows))
        crowd.released.set()
        eventually(lambda: set(states(rows)) == {"done"})

        assert crowd.in_all == 20
        assert runner.total("superseded") == 0

    def test_no_thread_is_left(self, start_runner: Start, eventually: Eventually) -> None:
        errands(3)
        prepare_to_start_threads()  # that thread stays, for the next runner
        before = set(threading.enumerate())
        runner = start_runner(Errand)
        eventually(lambda: runner.total("moved") == 3)

        runner.stop()

        def left() -> set[str]:
            names = {each.name for each in set(threading.enumerate()) - before}
            return {name for name in names if name.startswith("fsmworker-")}

        eventually(lambda: left() == set())

    def test_without_async_checks_there_is_no_loop(
        self, start_runner: Start, eventually: Eventually
    ) -> None:
        runner = start_runner(Trouble)
        eventually(lambda: runner.runner.parts.settler.is_alive())

        assert not runner.has_thread("fsmworker-loop-1")
        assert not runner.has_thread("fsmworker-feeder")


class TestSuspects:
    def test_one_runs_alone_beside_neither_kind(self, errand: Errands) -> None:
        crowd = Crowd(0.05)
        beside: list[int] = []

        async def suspected(row: Errand) -> str:
            before = crowd.in_all
            await asyncio.sleep(0.2)
            beside.append(crowd.in_all - before)
            return "done"

        errand("suspected", suspected)
        errand("crowd", crowd)
        suspect = errands(1, "suspected")
        lapse(suspect, times=2)
        count_deaths("default", Errand, "new", [suspect[0].pk], "a worker")
        FailureRecord.objects.update(deaths=2)
        rows = errands(20, "crowd")

        one_pass(Errand, async_concurrency=3)

        assert set(states(suspect + rows)) == {"done"}
        assert beside == [0]

    def test_one_that_killed_too_often_is_given_up(self) -> None:
        (row,) = errands(1)
        lapse([row], times=2)
        FailureRecord.objects.create(
            model="tests.Errand",
            row=str(row.pk),
            state="new",
            deaths=5,
            first_seen=clock.now(),
            last_seen=clock.now(),
        )

        one_pass(Errand)

        assert fresh(row).state == "failed"
        assert "ProcessDied" in reason(row)
