"""One process for several databases that are named: a runner for each, and one worker."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.db.models import QuerySet

from django_fsmworker import workers
from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.health.pages import LIVE, METRICS, READY, pages_of_all
from django_fsmworker.models import Worker
from django_fsmworker.runner import preflight
from django_fsmworker.runner.processes.group import RunnerGroup
from tests.app.models import BigKind, Noop, RoutedKind, Trouble
from tests.runner import hooked
from tests.runner.embedded import QUICK
from tests.runner.held_check import HeldCheck
from tests.runner.processes import Process
from tests.runner.server import Server
from tests.runner.supervisor_children import alive

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

BOTH = ("default", "other")
PODS = {"pod.1", "pod.2"}
Eventually = Callable[..., Any]
Start = Callable[..., "Running"]


class Running:
    """A group on a thread of its own."""

    def __init__(self, start_thread: Callable[..., Any], models: Any, options: Any) -> None:
        by_database = dict.fromkeys(BOTH, models)
        self.group = RunnerGroup(by_database, **{**QUICK, **options})
        self._thread = start_thread(self.group.run)

    @property
    def alive(self) -> bool:
        return bool(self._thread.is_alive())

    def result(self) -> None:
        self._thread.result(30)


@pytest.fixture
def start(start_thread: Callable[..., Any]) -> Iterator[Start]:
    started: list[Running] = []

    def start(*models: Any, **options: Any) -> Running:
        running = Running(start_thread, list(models), options)
        started.append(running)
        return running

    yield start
    for running in started:
        for runner in running.group.runners:
            runner.stop(0.5)
        running.group.stop()


PATIENCE = 600.0


@pytest.fixture
def give_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """``give_up()``: who waits for a database at its start has waited for ``PATIENCE`` by now."""
    passed = [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + passed[0])
    monkeypatch.setattr(preflight, "time", clock)
    return lambda: passed.__setitem__(0, 2 * PATIENCE)


def stored(model: Any, using: str) -> QuerySet[Any]:
    return QuerySet(model, using=using)


def made(model: Any, using: str, **fields: Any) -> Any:
    row = model(**fields)
    row.save(using=using)
    return row


def state(row: Any) -> str:
    return str(stored(type(row), row._state.db).get(pk=row.pk).state)


def work(eventually: Eventually, using: str, model: Any = Noop) -> None:
    row = made(model, using)
    eventually(lambda: state(row) == "done", 60)


class TestRows:
    def test_of_the_same_model_run_in_each(self, start: Start, eventually: Eventually) -> None:
        rows = [made(Noop, using) for using in BOTH for _ in range(3)]

        start(Noop)

        eventually(lambda: {state(row) for row in rows} == {"done"})

    def test_that_hang_in_one_hold_up_no_others(
        self, start: Start, eventually: Eventually, held_check: HeldCheck
    ) -> None:
        for _ in range(5):
            made(Trouble, "default", mode="held")
        start(Trouble, concurrency=2)
        eventually(lambda: held_check.begun)

        work(eventually, "other", Trouble)

    @pytest.mark.postgresql
    def test_go_on_while_the_other_database_is_away(
        self, start: Start, eventually: Eventually, server: Server
    ) -> None:
        start(Noop)
        for using in BOTH:
            work(eventually, using)
        connections["default"].close()

        with server.away():
            for _ in range(3):
                work(eventually, "other")
        work(eventually, "default")

    @pytest.mark.postgresql
    def test_run_also_where_the_other_is_away_at_the_start(
        self,
        start: Start,
        eventually: Eventually,
        server: Server,
        give_up: Callable[[], None],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        row = made(Noop, "default")
        connections["default"].close()

        with server.away():
            start(Noop, connect_timeout=PATIENCE)
            work(eventually, "other")
            give_up()
            eventually(lambda: "unreachable" in said(caplog), 40)
        eventually(lambda: state(row) == "done", 40)

    def test_of_a_pass_run_once(self) -> None:
        rows = [made(Noop, using) for using in BOTH]

        RunnerGroup(dict.fromkeys(BOTH, [Noop]), **QUICK).run(0)

        assert [state(row) for row in rows] == ["done", "done"]

    @pytest.mark.postgresql
    def test_of_a_pass_do_not_wait_for_one_that_is_away(
        self,
        server: Server,
        start_thread: Callable[..., Any],
        eventually: Eventually,
        give_up: Callable[[], None],
    ) -> None:
        row = made(Noop, "other")
        group = RunnerGroup(dict.fromkeys(BOTH, [Noop]), **{**QUICK, "connect_timeout": PATIENCE})
        connections["default"].close()

        with server.away():
            thread = start_thread(group.run, 0)
            eventually(lambda: state(row) == "done", 30)
            give_up()
            with pytest.raises(ConfigurationError, match="'default' cannot be reached"):
                thread.result(30)


def said(caplog: pytest.LogCaptureFixture) -> set[str]:
    return {each.__dict__.get("action", "") for each in caplog.records}


def on_record(using: str, worker_id: str) -> bool:
    return Worker.objects.using(using).filter(pk=worker_id).exists()


class TestWorker:
    def registered(self, running: Running, eventually: Eventually) -> str:
        (worker_id,) = {each.worker_id for each in running.group.runners}
        eventually(lambda: all(on_record(using, worker_id) for using in BOTH))
        return worker_id

    def test_is_one_with_a_record_in_each(self, start: Start, eventually: Eventually) -> None:
        running = start(Noop, heartbeat_interval=0.05)

        worker_id = self.registered(running, eventually)

        (worker,) = workers.living(databases=BOTH)
        assert (worker.id, worker.databases) == (worker_id, BOTH)
        assert worker.options["databases"] == list(BOTH)
        assert workers.databases_of([Noop, Trouble]) == {
            Noop: ["default", "other"],
            Trouble: ["default"],
        }

    def test_tells_of_all_that_it_does(
        self, start: Start, eventually: Eventually, held_check: HeldCheck
    ) -> None:
        for using in BOTH:
            made(Trouble, using, mode="held")
            made(Trouble, using)
        running = start(Trouble, heartbeat_interval=0.05)
        self.registered(running, eventually)

        def told() -> list[Worker]:
            found = [workers.all(databases=[using])[0] for using in BOTH]
            ready = all(
                each.totals["moved"] == 2 and each.in_flight == 2 and each.pace for each in found
            )
            return found if ready else []

        for worker in eventually(told):
            assert len(worker.longest_running) == 2
            assert [sum(each["times"].values()) for each in worker.pace] == [1], "its own rows"

    def test_an_order_in_one_database_is_obeyed_in_all(
        self, start: Start, eventually: Eventually
    ) -> None:
        running = start(Noop, heartbeat_interval=1)
        worker_id = self.registered(running, eventually)

        workers.get(worker_id, databases=["default"]).suspend()
        eventually(lambda: all(each.status().suspended for each in running.group.runners))
        row = made(Noop, "other")
        eventually(lambda: workers.get(worker_id, databases=["other"]).state == "suspended")
        assert state(row) == "new"
        workers.get(worker_id, databases=["default"]).resume()
        eventually(lambda: state(row) == "done")
        workers.get(worker_id, databases=["other"]).stop()

        eventually(lambda: not running.alive, 40)
        assert running.group.ordered_to_stop
        assert workers.get(worker_id, databases=["default"]).state == "stopped"

    def test_is_served_by_one_that_runs_other_models_elsewhere(
        self, settings: Any, eventually: Eventually, start_thread: Callable[..., Any]
    ) -> None:
        settings.DATABASE_ROUTERS = ["tests.routers.ByModel"]
        group = RunnerGroup({"default": [Noop], "other": [RoutedKind]}, **QUICK)
        thread = start_thread(group.run)
        try:
            eventually(lambda: all(workers.all(databases=[using]) for using in BOTH))
            (worker,) = workers.living()
            # The others are bulk actions for them, where some page of the admin offers these.
            assert {each for each in worker.served if "[" not in each} == {
                "tests.Noop",
                "tests.RoutedKind",
            }
        finally:
            group.stop()
            thread.result(30)


@pytest.mark.once
class TestProcess:
    def test_ends_as_a_whole(self, start: Start, eventually: Eventually) -> None:
        running = start(Noop)
        work(eventually, "other")

        running.group.runners[0].stop()

        eventually(lambda: not running.alive, 40)

    def test_ends_with_what_ends_one_of_its_runners(
        self, start: Start, eventually: Eventually
    ) -> None:
        running = start(Noop)
        work(eventually, "other")

        running.group.runners[1].parts.renewer.stop()

        eventually(lambda: not running.alive, 40)
        with pytest.raises(RuntimeError, match="fsmworker-renewer has ended"):
            running.result()

    def test_reaches_a_limit_with_the_rows_of_all(
        self, start: Start, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("django_fsmworker.runner.process_limits.LOOK_INTERVAL", 0.0)
        for using in BOTH:
            made(Noop, using)

        running = start(Noop, max_tasks=2)

        eventually(lambda: not running.alive, 40)
        assert running.group.limit_reached

    def test_calls_its_hooks_once(
        self, start: Start, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        called: list[str] = []
        rows = [made(Noop, using) for using in BOTH]
        for name in ("begin", "look", "end"):
            monkeypatch.setattr(hooked, name, lambda runner, name=name: called.append(name))
        path = "tests.runner.hooked."

        running = start(
            Noop,
            start_hooks=[f"{path}begin"],
            periodic_hooks=[f"{path}look"],
            hook_interval=0.01,
            end_hooks=[f"{path}end"],
        )
        eventually(lambda: {state(row) for row in rows} == {"done"} and "look" in called)
        threads = [each.name for each in threading.enumerate()]
        running.group.stop()
        running.result()

        assert threads.count("fsmworker-hooks") == 1
        assert (called[0], called.count("begin")) == ("begin", 1)
        assert (called[-1], called.count("end")) == ("end", 1)

    def test_claims_nothing_in_any_before_the_hooks_for_the_start_return(
        self, start: Start, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun, released = threading.Event(), threading.Event()

        def begin(runner: Any) -> None:
            begun.set()
            released.wait(30)

        monkeypatch.setattr(hooked, "begin", begin)
        rows = [made(Noop, using) for using in BOTH]

        running = start(Noop, start_hooks=["tests.runner.hooked.begin"])
        eventually(begun.is_set)
        assert [each.rounds for each in running.group.runners] == [0, 0]
        released.set()

        eventually(lambda: {state(row) for row in rows} == {"done"})

    def test_tells_of_progress_when_all_have_made_some(self) -> None:
        told: list[None] = []
        group = RunnerGroup(
            dict.fromkeys(BOTH, [Noop]), on_progress=lambda: told.append(None), **QUICK
        )

        group._progressed("default")
        assert len(told) == 1, "the other one has not come up"
        group._progressed("other")
        assert len(told) == 1
        group._progressed("default")
        assert len(told) == 2
        group._progressed("other")
        group._progressed("other")
        assert len(told) == 2

    def test_shares_its_memory_among_them(self) -> None:
        group = RunnerGroup(dict.fromkeys(BOTH, [Noop]), max_in_flight_megabytes=100)

        assert [each.settings.max_in_flight_megabytes for each in group.runners] == [50, 50]

    def test_is_ready_when_all_are(self, start: Start, eventually: Eventually) -> None:
        running = start(Noop, health_port=0)
        pages = pages_of_all(running.group.runners)
        eventually(lambda: pages[READY]().text == "ok\n")

        running.group.runners[1].stop()

        eventually(lambda: pages[READY]().status == 503)
        assert pages[LIVE]().text == "ok\n"
        assert 'fsmworker_up{process="0"} 1.0' in pages[METRICS]().text


class TestCommand:
    @pytest.mark.once
    def test_runs_all_that_are_named(
        self, start_process: Callable[..., Process], eventually: Eventually
    ) -> None:
        rows = [made(BigKind, using) for using in BOTH]

        process = start_process("runstator", "tests.BigKind", "--database", "default,other")
        eventually(lambda: {state(row) for row in rows} == {"done"}, 40)
        process.send(signal.SIGTERM)

        assert process.wait(60) == 0
        said = process.stdout
        assert "stopped (default): moved=1 " in said
        assert "stopped (other): moved=1 " in said

    @pytest.mark.once
    def test_runs_all_in_each_of_several_processes_and_one_that_is_told_to_stop_stays_away(
        self, start_process: Callable[..., Process], eventually: Eventually
    ) -> None:
        command = ("runstator", "tests.BigKind", "--database=default,other", "--processes=2")
        process = start_process(
            *command, "--worker-id=pod", "--poll-interval=0.5", FSMWORKER_HEARTBEAT_INTERVAL="0.5"
        )
        eventually(lambda: {each.id for each in workers.living(databases=BOTH)} >= PODS, 40)
        rows = [made(BigKind, using) for using in BOTH for _ in range(10)]
        eventually(lambda: {state(row) for row in rows} == {"done"}, 40)

        workers.get("pod.1", databases=["other"]).stop()
        eventually(lambda: not alive(workers.get("pod.1", databases=["default"]).pid), 40)
        other = workers.get("pod.2", databases=BOTH)
        assert other.state == "ready"
        assert alive(other.pid)
        other.stop()

        assert process.wait(60) == 0
        assert "has ended unexpectedly" not in process.stderr
        for alias in BOTH:
            states = [workers.get(name, databases=[alias]).state for name in sorted(PODS)]
            assert states == ["stopped", "stopped"], alias

    def test_runs_in_each_what_the_routers_keep_there(self, settings: Any) -> None:
        settings.DATABASE_ROUTERS = ["tests.routers.OnlyOne", "tests.routers.ByModel"]
        here, there = made(BigKind, "default"), made(RoutedKind, "other")
        stray = made(RoutedKind, "default")

        call_command("runstator", "--once", "--database=default,other", stdout=StringIO())

        assert [state(row) for row in (here, there, stray)] == ["done", "done", "new"]

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["--database=default,archive"], "There is no database 'archive'; DATABASES has"),
            (["tests.BigKind", "--database=default,other"], "No model is kept in the database"),
        ],
    )
    def test_refuses(self, settings: Any, arguments: list[str], sentence: str) -> None:
        settings.DATABASE_ROUTERS = ["tests.routers.OnlyOne", "tests.routers.ByModel"]

        with pytest.raises(CommandError, match=f"^{sentence}"):
            call_command("runstator", "--once", *arguments)


def test_no_thread_is_left(start: Start, eventually: Eventually) -> None:
    running = start(Noop)
    work(eventually, "default")

    running.group.stop()

    eventually(lambda: not running.alive, 40)
    eventually(
        lambda: "fsmworker-runner-other" not in {each.name for each in threading.enumerate()}
    )
