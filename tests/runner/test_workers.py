"""The registry of workers, as a runner writes it, and the orders that it obeys."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from django_fsmworker import clock, workers
from django_fsmworker.exceptions import WorkerUnavailable
from django_fsmworker.models import Worker
from django_fsmworker.runner import heartbeat, main_loop
from django_fsmworker.runner.main_loop import Duty
from tests.app.models import Letter, Noop, Trouble
from tests.runner.embedded import Embedded, one_pass
from tests.runner.held_check import HeldCheck
from tests.runner.test_mismatches import renamed, said

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]


@pytest.fixture
def registered(start_runner: Start, eventually: Eventually) -> Start:
    """``registered(Model, …)``: a runner that is on record."""

    def start(*models: Any, **options: Any) -> Embedded:
        embedded = start_runner(*models, **options)
        eventually(lambda: Worker.objects.filter(pk=embedded.runner.worker_id).exists())
        return embedded

    return start


def slow(row: Trouble) -> str:
    time.sleep(0.1)
    return "done"


def state_of(embedded: Embedded) -> str:
    return state_of_id(embedded.runner.worker_id)


def state_of_id(worker_id: str) -> str:
    return workers.get(worker_id).state


class TestRecord:
    def test_says_who_it_is(self, registered: Start) -> None:
        runner = registered(Trouble, concurrency=3).runner

        worker = workers.get(runner.worker_id)

        own = rf"tests\.trouble\.[0-9a-f]{{16}}@{re.escape(socket.gethostname()[:64])}"
        assert re.fullmatch(own, worker.id)
        assert (worker.name, runner.worker_name) == ("tests.trouble", "tests.trouble")
        assert (worker.host, worker.pid) == (socket.gethostname(), os.getpid())
        assert (worker.state, worker.options["concurrency"]) == ("ready", 3)
        bulk_actions = "django_fsmworker.BulkAction[tests.Trouble]"  # its admin offers them
        assert set(worker.served) == {"tests.Trouble", bulk_actions}
        assert set(worker.versions) == {"django", "django_fsmworker", "python"}
        assert abs(worker.heartbeat - worker.started) < timedelta(seconds=30)

    def test_says_what_it_does(
        self, registered: Start, held_check: HeldCheck, eventually: Eventually
    ) -> None:
        row, done = Trouble.objects.create(mode="held"), Trouble.objects.create()
        runner = registered(Trouble, heartbeat_interval=0.05)
        eventually(lambda: held_check.begun)

        worker = eventually(
            lambda: [
                each
                for each in workers.living()
                # One that has moved is counted before it is let go of.
                if each.running and each.totals["moved"] and each.in_flight == 1
            ]
        )[0]

        (running,) = worker.longest_running
        assert (running.model, running.state) == ("tests.Trouble", "new")
        assert running.keys == (str(row.pk),)
        assert abs(running.since - worker.heartbeat) < timedelta(seconds=20)
        assert worker.totals["moved"] == 1, done
        held_check.released.set()
        runner.stop()

    def test_says_how_fast_its_checks_are(
        self, registered: Start, eventually: Eventually, mode: Callable[..., None]
    ) -> None:
        mode("slow", slow)
        Trouble.objects.bulk_create(Trouble(mode="slow") for _ in range(3))
        Letter.objects.bulk_create(Letter(pause=0.1) for _ in range(4))

        worker_id = registered(Trouble, Letter, heartbeat_interval=0.05).runner.worker_id
        numbers = {
            ("tests.Trouble", "new"): 3,
            ("tests.Letter", "new"): 4,
            ("tests.Letter", "flying"): 4,
        }

        def told() -> dict[Any, Any]:
            pace = {(each["model"], each["state"]): each for each in workers.get(worker_id).pace}
            counted = {lane: sum(each["times"].values()) for lane, each in pace.items()}
            return pace if counted == numbers else {}

        found = eventually(told, 30)
        for lane, number in numbers.items():
            assert min(map(float, found[lane]["times"])) > 0.1
            assert found[lane]["per_minute"] >= number

    def test_of_one_that_ended_says_so(self, registered: Start) -> None:
        embedded = registered(Noop)

        embedded.stop()

        assert state_of(embedded) == "stopped"
        assert not workers.living() and not workers.lost()

    def test_of_one_that_is_silent_counts_it_as_lost(
        self, registered: Start, travel: Callable[[float], None]
    ) -> None:
        embedded = registered(Noop)
        embedded.stop()
        # As if it had died without a word: one that lives gives a sign of life soon after a jump.
        Worker.objects.filter(pk=embedded.runner.worker_id).update(status="ready")

        travel(46)

        assert state_of(embedded) == "lost"
        assert [each.id for each in workers.lost()] == [embedded.runner.worker_id]

    def test_comes_back_if_somebody_deletes_it(
        self, registered: Start, eventually: Eventually
    ) -> None:
        embedded = registered(Noop, heartbeat_interval=0.05)

        Worker.objects.all().delete()

        eventually(lambda: Worker.objects.exists())
        assert state_of(embedded) == "ready"

    def test_is_none_of_a_single_pass(self) -> None:
        one_pass(Noop)

        assert not Worker.objects.exists()

    def test_is_purged_by_age_unless_it_lives(
        self, registered: Start, travel: Callable[[float], None]
    ) -> None:
        registered(Noop).stop()
        travel(3600)
        living = registered(Noop)

        assert workers.purge(timedelta(hours=2)) == 0
        assert workers.purge(timedelta(minutes=30)) == 1
        assert [each.id for each in workers.all()] == [living.runner.worker_id]


class TestSignsOfLife:
    def test_are_given_while_every_check_blocks(
        self, registered: Start, held_check: HeldCheck, eventually: Eventually
    ) -> None:
        Trouble.objects.create(mode="held")
        worker_id = registered(Trouble, concurrency=1, heartbeat_interval=0.05).runner.worker_id
        eventually(lambda: held_check.begun)
        before = workers.get(worker_id).heartbeat

        eventually(lambda: workers.get(worker_id).heartbeat > before)

        assert state_of_id(worker_id) == "ready"

    def test_one_that_can_give_none_stops_claiming_before_others_call_it_lost(
        self,
        registered: Start,
        eventually: Eventually,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        caplog.set_level("INFO", "django_fsmworker")
        assert heartbeat.OWN_PART < 1
        monkeypatch.setattr(heartbeat, "OWN_PART", 1 / 4)  # far enough from the whole
        runner = registered(Noop, heartbeat_interval=0.2, heartbeat_timeout=16).runner
        expires = workers.get(runner.worker_id).expires

        with renamed(Worker._meta.db_table):
            eventually(lambda: runner.status().unknown_to == ("default",), 30)
            assert clock.now() < expires
            row = Noop.objects.create()
            eventually(lambda: said(caplog, "silent"))
            assert Noop.objects.get(pk=row.pk).state == "new"

        eventually(lambda: Noop.objects.get(pk=row.pk).state == "done")
        assert runner.status().unknown_to == ()
        eventually(lambda: len(said(caplog, "silent")) == len(said(caplog, "heard")) == 1)


class TestNames:
    def test_of_a_worker_that_starts_again_is_the_same_and_its_id_is_not(
        self, registered: Start
    ) -> None:
        first, second = registered(Noop), registered(Noop)

        assert first.runner.worker_name == second.runner.worker_name
        assert first.runner.worker_id != second.runner.worker_id
        assert len(workers.living(name="tests.noop")) == 2

    def test_and_ids_may_be_given(self, registered: Start) -> None:
        runner = registered(Noop, worker_id="shop@here", worker_name="shop").runner

        assert (runner.worker_id, runner.worker_name) == ("shop@here", "shop")
        assert workers.get("shop@here").name == "shop"

    def test_a_given_id_can_be_used_again_after_a_death(
        self, registered: Start, eventually: Eventually
    ) -> None:
        registered(Noop, worker_id="one").stop()
        Worker.objects.update(status="ready", wanted="stopped")
        died = workers.get("one").incarnation

        again = registered(Noop, worker_id="one")

        eventually(lambda: workers.get("one").incarnation != died)
        assert state_of(again) == "ready"
        assert again.alive

    def test_a_twin_takes_the_id_and_the_earlier_one_goes_on_under_another(
        self, registered: Start, eventually: Eventually
    ) -> None:
        earlier = registered(Noop, worker_id="one", heartbeat_interval=0.05)
        registered(Noop, worker_id="one")

        eventually(lambda: len(workers.living()) == 2)

        assert re.fullmatch(r"one\+[0-9a-f]{8}", earlier.runner.worker_id)
        assert workers.get("one").state == "ready"


class TestOrders:
    def test_suspend_ends_claims_and_no_check(
        self, registered: Start, held_check: HeldCheck, eventually: Eventually
    ) -> None:
        running = Trouble.objects.create(mode="held")
        embedded = registered(Trouble, heartbeat_interval=0.1)
        eventually(lambda: held_check.begun)

        workers.get(embedded.runner.worker_id).suspend(by="me", reason="a flood")
        eventually(lambda: state_of(embedded) == "suspended")
        waiting = Trouble.objects.create()
        held_check.released.set()
        eventually(lambda: Trouble.objects.get(pk=running.pk).state == "done")

        assert Trouble.objects.get(pk=waiting.pk).state == "new"
        worker = workers.get(embedded.runner.worker_id)
        assert (worker.ordered_by, worker.order_reason) == ("me", "a flood")
        worker.resume()
        eventually(lambda: Trouble.objects.get(pk=waiting.pk).state == "done")
        eventually(lambda: state_of(embedded) == "ready")

    def test_suspend_gives_back_what_has_not_started(
        self, registered: Start, held_check: HeldCheck, eventually: Eventually
    ) -> None:
        Trouble.objects.bulk_create(Trouble(mode="held") for _ in range(4))
        embedded = registered(Trouble, concurrency=1, heartbeat_interval=0.1)
        eventually(lambda: held_check.begun and Trouble.objects.running().count() > 1)

        workers.living().suspend()

        eventually(lambda: Trouble.objects.running().count() == 1)
        assert Trouble.objects.due().count() == 3
        held_check.released.set()
        embedded.stop()

    def test_suspend_is_obeyed_before_claims_go_on_that_waited_for_the_look_at_orders(
        self, registered: Start, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        embedded = registered(Noop, hints=False, heartbeat_interval=15)
        orders, looked = embedded.runner._one.orders, Duty.looked
        seen: list[tuple[bool, bool]] = []

        def look_over(duty: Duty, moment: float) -> None:
            seen.append(("suspended" in orders.wanted, duty.suspended))
            looked(duty, moment)

        monkeypatch.setattr(Duty, "looked", look_over)
        workers.living().suspend()

        embedded.runner.parts.heartbeat.look()

        eventually(lambda: state_of(embedded) == "suspended")
        assert (True, True) in seen
        assert (True, False) not in seen

    def test_suspend_is_seen_before_rows_are_claimed_after_a_pause(
        self, registered: Start, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also where no hint tells of orders, and however long the heartbeat's interval is."""
        monkeypatch.setattr(main_loop, "LONGEST_LOOK", 30.0)  # the database may take its time
        embedded = registered(Noop, hints=False, heartbeat_interval=15)
        eventually(lambda: state_of(embedded) == "ready")
        workers.living().suspend()
        _wait(2.1)  # for so long orders may be old

        row = Noop.objects.create()

        eventually(lambda: state_of(embedded) == "suspended")
        assert Noop.objects.get(pk=row.pk).state == "new"

    def test_stop_drains_and_ends_the_runner(
        self, registered: Start, held_check: HeldCheck, eventually: Eventually
    ) -> None:
        row = Trouble.objects.create(mode="held")
        embedded = registered(Trouble, heartbeat_interval=0.1, drain_timeout=60)
        eventually(lambda: held_check.begun)

        told = workers.living(host=socket.gethostname()).stop()

        assert told == [embedded.runner.worker_id]
        eventually(lambda: state_of(embedded) == "stopping")
        held_check.released.set()
        eventually(lambda: not embedded.alive)
        assert state_of(embedded) == "stopped"
        assert Trouble.objects.get(pk=row.pk).state == "done"

    def test_one_that_has_stopped_takes_none(self, registered: Start) -> None:
        embedded = registered(Noop)
        embedded.stop()
        worker = workers.get(embedded.runner.worker_id)

        for order in (worker.suspend, worker.resume, worker.stop, worker.show_stacks):
            with pytest.raises(WorkerUnavailable) as refused:
                order()
            assert str(refused.value) == (
                f"The worker {worker.id} is stopped and takes no such order; "
                f"workers.living() has those that do."
            )
        assert workers.all().suspend() == []

    def test_one_that_is_told_to_stop_takes_no_other(
        self, registered: Start, held_check: HeldCheck, eventually: Eventually
    ) -> None:
        Trouble.objects.create(mode="held")
        embedded = registered(Trouble, drain_timeout=60)
        eventually(lambda: held_check.begun)
        worker = workers.get(embedded.runner.worker_id)
        worker.stop()
        worker.stop()  # again: nothing new

        with pytest.raises(WorkerUnavailable, match="is stopping and takes no such order"):
            worker.resume()
        held_check.released.set()

    def test_stacks_are_shown(
        self, registered: Start, held_check: HeldCheck, eventually: Eventually
    ) -> None:
        Trouble.objects.create(mode="held")
        embedded = registered(Trouble, heartbeat_interval=0.1)
        eventually(lambda: held_check.begun)

        stacks = workers.get(embedded.runner.worker_id).show_stacks()

        assert "Thread fsmworker-heartbeat:" in stacks
        assert "held_check.py" in stacks
        held_check.released.set()


def _wait(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.05)
