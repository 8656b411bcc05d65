"""``runstator --processes N``: one process without threads or connections, and its runners."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.runner.processes.child import Child
from django_fsmworker.runner.processes.exit_codes import as_exit_code, in_words
from django_fsmworker.runner.processes.supervised import LINK, Supervised, environment
from django_fsmworker.runner.processes.supervisor import Supervisor
from tests.app.models import CheckLog, Noop, Trouble
from tests.paths import ROOT
from tests.runner.processes import Process
from tests.runner.rows import fresh, states
from tests.runner.supervisor_children import alive, children

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

Start = Callable[..., Process]
Eventually = Callable[..., Any]
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.fixture
def start_supervisor(
    start_process: Start, eventually: Eventually
) -> Iterator[Callable[..., tuple[Process, list[int]]]]:
    """``start_supervisor("--concurrency=1", …)``: with two runners, which run when it returns."""
    started: list[Process] = []

    def start(*arguments: str, **environment: str) -> tuple[Process, list[int]]:
        process = start_process("runstator", "--processes=2", *arguments, **environment)
        started.append(process)
        eventually(lambda: len(children(process)) == 2 or process.ended, 20)
        assert not process.ended, process.stderr
        return process, children(process)

    yield start
    for process in started:  # not killed before its children are
        eventually(lambda process=process: process.send(signal.SIGTERM) or process.ended)
        for pid in children(process):  # its supervisor was killed, and the test has failed
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def waiting_rows(eventually: Eventually) -> Callable[[], list[Trouble]]:
    """``waiting_rows()``: two rows whose checks have begun, and end once they have a value."""

    def start() -> list[Trouble]:
        rows = Trouble.objects.bulk_create([Trouble(mode="wait_for_value") for _ in range(2)])
        eventually(lambda: CheckLog.objects.count() == 2, 20)
        return rows

    return start


def count(process: Process, text: str) -> int:
    return process.stderr.count(text)


class TestChildren:
    def test_they_are_as_many_as_asked_for_and_run_rows(
        self, start_supervisor: Any, eventually: Eventually
    ) -> None:
        process, pids = start_supervisor("tests.Noop")
        rows = [Noop.objects.create() for _ in range(20)]

        eventually(lambda: set(states(rows)) == {"done"})

        assert len(set(pids)) == 2
        assert process.pid not in pids
        assert count(process, "INFO Supervising 2 processes.\n") == 1
        process.send(signal.SIGTERM)
        assert process.wait(10) == 0

    def test_there_are_as_many_as_the_setting_says(
        self, start_process: Start, eventually: Eventually
    ) -> None:
        process = start_process("runstator", "tests.Noop", "--once", FSMWORKER_PROCESSES="2")

        assert process.wait() == 0, process.stderr
        assert count(process, "INFO Running tests.Noop") == 2

    def test_one_that_is_killed_is_replaced_and_that_is_said_once(
        self, start_supervisor: Any, eventually: Eventually
    ) -> None:
        process, (first, second) = start_supervisor("tests.Noop")

        os.kill(first, signal.SIGKILL)
        eventually(lambda: len(found := children(process)) == 2 and first not in found)

        assert second in children(process)
        said = f"WARNING Process 1 (pid {first}) has ended unexpectedly (killed by signal 9); "
        assert count(process, said) == 1
        assert count(process, "has ended unexpectedly") == 1
        row = Noop.objects.create()
        eventually(lambda: fresh(row).state == "done")

    def test_one_that_was_told_to_stop_by_somebody_else_is_replaced(
        self, start_supervisor: Any, eventually: Eventually
    ) -> None:
        process, (first, _) = start_supervisor("tests.Noop")

        os.kill(first, signal.SIGTERM)
        eventually(lambda: len(found := children(process)) == 2 and first not in found)

        assert count(process, f"(pid {first}) has ended unexpectedly (exit code 0)") == 1

    def test_too_many_abandoned_threads_are_a_reason_to_start_again(
        self, start_supervisor: Any, eventually: Eventually
    ) -> None:
        process, _ = start_supervisor(
            "tests.Trouble", "--concurrency=2", "--deadline=0.2", "--drain-timeout=0.2",
            FSMWORKER_MAX_ABANDONED="1",
        )  # fmt: skip

        for _ in range(4):
            Trouble.objects.create(mode="sleep", value=60)

        eventually(lambda: "has ended unexpectedly (exit code 3)" in process.stderr, 20)
        assert not process.ended

    def test_a_check_that_ends_its_process_with_1_is_no_wrong_configuration(
        self, start_process: Start, eventually: Eventually
    ) -> None:
        """Also in the first claim of the first process."""
        Trouble.objects.create(mode="exit")
        process = start_process("runstator", "--processes=2", "tests.Trouble", "--lease=1")

        eventually(lambda: count(process, "has ended unexpectedly (exit code 1)") >= 2, 30)

        assert not process.ended
        process.send(signal.SIGTERM)
        process.wait(20)

    def test_one_that_cannot_start_when_another_could_is_tried_again(self) -> None:
        """The configuration is the same: the database went away, or has no connection left."""
        supervisor = Supervisor(RunnerSettings(processes=2))
        first, second = supervisor._children
        first.has_been_up = True

        supervisor._decide(second, 42, 1, "exit code 1")

        assert second.due is not None
        assert not second.finished
        assert not supervisor._stopping


class TestStopping:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_the_first_signal_drains_all_and_ends_with_0(
        self,
        start_supervisor: Any,
        waiting_rows: Any,
        eventually: Eventually,
        number: signal.Signals,
    ) -> None:
        process, pids = start_supervisor("tests.Trouble", "--deadline=60")
        rows = waiting_rows()

        process.send(number)
        said = f"INFO Stopping all processes ({number.name}).\n"
        eventually(lambda: count(process, said) == 1)
        Trouble.objects.update(value=1)

        assert process.wait(15) == 0, process.stderr
        assert states(rows) == ["done", "done"]
        assert process.stdout.count("stopped: moved=") == 2
        assert not any(map(alive, pids))
        assert count(process, said) == 1

    def test_one_that_everybody_gets_drains_all_the_same(
        self, start_supervisor: Any, waiting_rows: Any
    ) -> None:
        process, pids = start_supervisor("tests.Trouble", "--deadline=60")
        rows = waiting_rows()

        for pid in (*pids, process.pid, *pids):
            os.kill(pid, signal.SIGTERM)
        Trouble.objects.update(value=1)

        assert process.wait(15) == 0, process.stderr
        assert states(rows) == ["done", "done"]

    def test_the_second_ends_all_at_once(
        self, start_supervisor: Any, eventually: Eventually
    ) -> None:
        process, pids = start_supervisor("tests.Trouble", "--deadline=60")
        rows = [Trouble.objects.create(mode="sleep", value=30) for _ in range(2)]
        eventually(lambda: Trouble.objects.running().count() == 2)

        process.send(signal.SIGTERM)
        eventually(lambda: "Stopping all processes" in process.stderr)
        process.send(signal.SIGINT)

        assert process.wait(5) == 128 + signal.SIGINT
        eventually(lambda: not any(map(alive, pids)), 5)
        assert states(rows) == ["new", "new"]

    def test_one_while_a_child_waits_for_the_database(
        self, start_process: Start, eventually: Eventually, tmp_path: Path
    ) -> None:
        process = start_process(
            "runstator",
            "--processes=2",
            "--connect-timeout=60",
            DATABASE_URL=f"sqlite:///{tmp_path}",
        )
        eventually(lambda: "Supervising 2 processes" in process.stderr)

        process.send(signal.SIGTERM)

        assert process.wait(10) == 0, process.stderr

    def test_children_end_in_order_when_their_supervisor_is_killed(
        self, start_supervisor: Any, waiting_rows: Any, eventually: Eventually
    ) -> None:
        process, pids = start_supervisor("tests.Trouble", "--deadline=60")
        rows = waiting_rows()

        process.send(signal.SIGKILL)
        process.wait()
        Trouble.objects.update(value=1)

        eventually(lambda: not any(map(alive, pids)), 20)
        assert states(rows) == ["done", "done"]
        assert process.stdout.count("stopped: moved=") == 2


class TestStart:
    def test_configuration_is_said_once_and_ends_it_with_1(
        self, start_process: Start, tmp_path: Path
    ) -> None:
        process = start_process(
            "runstator", "--processes=3", "--connect-timeout=0.2", "--verbosity=0",
            DATABASE_URL=f"sqlite:///{tmp_path}",
        )  # fmt: skip

        assert process.wait(15) == 1
        (line,) = process.stderr.splitlines()
        assert line.startswith("CommandError: The database 'default' cannot be reached (")

    def test_a_setting_that_is_wrong_starts_no_child(self, start_process: Start) -> None:
        process = start_process("runstator", "--processes=2", FSMWORKER_LEASE="long")

        assert process.wait() == 1
        assert "Supervising" not in process.stderr
        assert "the environment variable FSMWORKER_LEASE is 'long'" in process.stderr

    def test_reload_is_refused(self, start_process: Start) -> None:
        process = start_process("runstator", "--processes=2", "--reload")

        assert process.wait() == 1
        assert process.stderr.splitlines() == [
            "CommandError: --reload runs a single process; add --processes 1."
        ]

    def test_from_code_it_is_refused(self) -> None:
        with pytest.raises(CommandError) as refused:
            call_command("runstator", "--once", "--processes=2")

        assert str(refused.value) == (
            "--processes starts the command line of this process again; "
            "called from code, runstator is a single process."
        )

    def test_from_code_the_setting_does_not_count(self, settings: Any) -> None:
        settings.FSMWORKER = {"PROCESSES": 2}
        row = Noop.objects.create()

        call_command("runstator", "tests.Noop", "--once", "--verbosity=0")

        assert fresh(row).state == "done"


class TestEnds:
    def test_after_one_pass_of_each(self, start_process: Start) -> None:
        rows = [Noop.objects.create() for _ in range(50)]

        process = start_process("runstator", "tests.Noop", "--processes=2", "--once")

        assert process.wait() == 0, process.stderr
        assert set(states(rows)) == {"done"}
        assert process.stdout.count("stopped: moved=") == 2

    def test_children_with_a_time_to_run_end_together(self, start_process: Start) -> None:
        process = start_process("runstator", "tests.Noop", "--processes=2", "--run-for=3")

        assert process.wait(20) == 0, process.stderr
        assert process.stdout.count("stopped: moved=0 ") == 2
        assert "ended unexpectedly" not in process.stderr

    def test_a_death_in_a_pass_is_its_exit_code(
        self, start_process: Start, eventually: Eventually
    ) -> None:
        Trouble.objects.create(mode="sleep", value=30)
        process = start_process(
            "runstator", "tests.Trouble", "--processes=2", "--once", "--deadline=60"
        )
        (first, *_) = eventually(lambda: children(process), 20)
        eventually(lambda: Trouble.objects.running().exists())

        os.kill(first, signal.SIGKILL)

        assert process.wait(20) == 128 + signal.SIGKILL, process.stderr
        assert count(
            process, f"ERROR Process 1 (pid {first}) has ended unexpectedly (killed by signal 9).\n"
        )


PROJECT = """
from tests.app.settings import *
from django.core import checks

{extra}

@checks.register
def asks(app_configs, **kwargs):
    from django.db import connection
    connection.ensure_connection()
    return []
"""


@linux
class TestTheSupervisorItself:
    """Its project has a system check that connects."""

    def supervisor(
        self, start_supervisor: Any, tmp_path: Path, extra: str = ""
    ) -> tuple[Process, list[int]]:
        (tmp_path / "asking_settings.py").write_text(PROJECT.format(extra=extra))
        paths = f"{ROOT}:{tmp_path}"
        process, pids = start_supervisor(
            "tests.Noop", DJANGO_SETTINGS_MODULE="asking_settings", PYTHONPATH=paths
        )
        return process, pids

    def test_it_has_one_thread(self, start_supervisor: Any, tmp_path: Path) -> None:
        process, pids = self.supervisor(start_supervisor, tmp_path)

        assert len(list(Path(f"/proc/{process.pid}/task").iterdir())) == 1
        assert len(list(Path(f"/proc/{pids[0]}/task").iterdir())) > 10

    def test_it_has_no_descriptor_of_a_database_and_gives_none_on(
        self, start_supervisor: Any, tmp_path: Path
    ) -> None:
        process, pids = self.supervisor(start_supervisor, tmp_path)

        held = descriptors(process.pid)
        assert sum(each.startswith("socket:") for each in held) == 2, "the links to its children"
        assert not any("sqlite3" in each for each in held)
        for pid in pids:
            shared = held & descriptors(pid)
            assert not [each for each in shared if each.startswith(("socket:", "pipe:"))]

    @pytest.mark.postgresql
    def test_postgresql_knows_of_no_connection(
        self, start_supervisor: Any, tmp_path: Path, eventually: Eventually
    ) -> None:
        name = "import os; OPTIONS = {'application_name': f'pid-{os.getpid()}'}"
        extra = f"{name}; DATABASES['default']['OPTIONS'] = OPTIONS"

        process, pids = self.supervisor(start_supervisor, tmp_path, extra)

        eventually(lambda: all(map(backends, pids)))
        assert backends(process.pid) == 0

    @pytest.mark.postgresql
    def test_a_pool_leaves_no_thread(self, start_supervisor: Any, tmp_path: Path) -> None:
        extra = "DATABASES['default']['OPTIONS'] = {'pool': {'min_size': 2, 'max_size': 20}}"

        process, _ = self.supervisor(start_supervisor, tmp_path, extra)

        assert len(list(Path(f"/proc/{process.pid}/task").iterdir())) == 1


def descriptors(pid: int) -> set[str]:
    """What a process has open beside its standard streams."""
    opened = Path(f"/proc/{pid}/fd").iterdir()
    return {os.readlink(each) for each in opened if int(each.name) > 2}


def backends(pid: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [f"pid-{pid}"]
        )
        return int(cursor.fetchone()[0])


class TestLiveness:
    def test_the_file_means_all_of_them(
        self, start_supervisor: Any, eventually: Eventually, tmp_path: Path
    ) -> None:
        file = tmp_path / "alive"

        process, pids = start_supervisor("tests.Noop", f"--liveness-file={file}")

        eventually(file.exists)
        assert children(process) == pids

    def test_one_that_has_been_silent_for_long_does_not_count(
        self, supervised: Callable[..., Any], now: Callable[..., None], tmp_path: Path
    ) -> None:
        file = tmp_path / "alive"
        supervisor = Supervisor(RunnerSettings(processes=2, liveness_file=str(file)))
        first, second = (supervised(child) for child in supervisor._children)

        for seconds, who, touched in [
            (0, first, False),  # the second has not come up
            (1, second, True),
            (30, first, True),
            (30, first, False),  # the second has not spoken for a minute
            (1, second, True),
        ]:
            file.unlink(missing_ok=True)
            now(seconds)
            who.beat()
            supervisor._read_beats(who.child)
            assert file.exists() is touched, (seconds, who.child.number)

    def test_one_that_has_finished_does(self) -> None:
        supervisor = Supervisor(RunnerSettings(processes=1))
        supervisor._children[0].finished = True

        assert supervisor._all_make_progress()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """``now(seconds)``: so much time has passed for this process."""
    passed = [time.monotonic()]
    monkeypatch.setattr("time.monotonic", lambda: passed[0])
    return lambda seconds: passed.__setitem__(0, passed[0] + seconds)


@pytest.fixture
def supervised() -> Iterator[Callable[[Child], Any]]:
    """``supervised(child)``: the other end of a child's link, as its process would hold it."""
    links: list[socket.socket] = []

    def connect(child: Child) -> Any:
        child.link, theirs = socket.socketpair()
        links.extend([child.link, theirs])
        return SimpleNamespace(child=child, beat=Supervised(theirs, None).beat)

    yield connect
    for link in links:
        link.close()


class TestPauses:
    def test_they_grow_to_half_a_minute_and_begin_anew(
        self, now: Callable[[float], None], caplog: pytest.LogCaptureFixture
    ) -> None:
        child = Child(1, [sys.executable, "-c", ""])
        pauses = []

        for lived in [*[1] * 9, 61, 1]:
            child._started = time.monotonic()
            now(lived)
            child.start_again(7, "exit code 3")
            assert child.due is not None
            pauses.append(child.due - time.monotonic())

        for pause, most in zip(
            pauses, [0.75, 1.5, 3, 6, 12, 24, 30, 30, 30, 0.75, 1.5], strict=True
        ):
            assert most / 3 <= pause <= most
        assert caplog.messages[-1] == (
            f"Process 1 (pid 7) has ended unexpectedly (exit code 3); "
            f"it is started again in {pauses[-1]:.1f} s."
        )

    def test_a_command_that_cannot_be_started_is_tried_again(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        supervisor = Supervisor(RunnerSettings(processes=2), command=["/nowhere/python"])

        supervisor._start_those_that_are_due()

        first, second = supervisor._children
        assert first.due is not None and first.due > time.monotonic()
        assert second.due == 0.0
        assert "(pid None) has ended unexpectedly ([Errno 2] " in caplog.text

    @pytest.mark.parametrize(
        ("code", "words", "reported"), [(3, "exit code 3", 3), (-9, "killed by signal 9", 137)]
    )
    def test_the_reason_of_an_end_is_told(self, code: int, words: str, reported: int) -> None:
        assert (in_words(code), as_exit_code(code)) == (words, reported)


class TestTheLink:
    def test_without_a_supervisor_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(LINK, raising=False)

        assert Supervised.from_environment() is None

    @pytest.mark.parametrize("left_over", ["0:", "9999:"])
    def test_a_variable_that_was_left_over(
        self, monkeypatch: pytest.MonkeyPatch, left_over: str
    ) -> None:
        monkeypatch.setenv(LINK, left_over)

        assert Supervised.from_environment() is None
        assert LINK not in os.environ

    def test_the_time_that_is_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ours, theirs = socket.socketpair()
        with ours:
            monkeypatch.setenv(LINK, environment(theirs, 2.5)[LINK])
            theirs.detach()

            found = Supervised.from_environment()

            assert found is not None
            assert found.seconds_left == 2.5
            found._link.close()

    def test_a_supervisor_that_is_gone_makes_it_stop(self, eventually: Eventually) -> None:
        ours, theirs = socket.socketpair()
        stopped: list[bool] = []
        with theirs:
            Supervised(theirs, None).watch(lambda: stopped.append(True), patience=1000)
            assert not stopped

            ours.close()

            eventually(lambda: stopped)

    def test_it_is_ended_if_it_cannot_stop(self) -> None:
        program = (
            "import socket, time\n"
            "from django_fsmworker.runner.processes.supervised import Supervised\n"
            "ours, theirs = socket.socketpair()\n"
            "Supervised(theirs, None).watch(lambda: None, patience=0.1)\n"
            "ours.close()\n"
            "time.sleep(60)\n"
        )

        assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=20).returncode == 1

    def test_a_child_does_not_wait_for_a_supervisor_that_does_not_read(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            link = Supervised(theirs, None)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            for _ in range(10_000):
                link.beat()
            ours.close()
            link.beat()
