"""``runstator --processes N``: one process without threads or connections, and its runners."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from django_fsmworker import workers
from django_fsmworker.conf import RunnerSettings
from django_fsmworker.management.commands.runstator import Command
from django_fsmworker.runner.processes.child import Child
from django_fsmworker.runner.processes.exit_codes import as_exit_code, in_words
from django_fsmworker.runner.processes.process import run_process
from django_fsmworker.runner.processes.supervised import LINK, Supervised, environment
from django_fsmworker.runner.processes.supervisor import Supervisor
from tests.app.models import CheckLog, Noop, Trouble
from tests.paths import ROOT
from tests.runner.health_pages import page
from tests.runner.processes import Process
from tests.runner.rows import fresh, states
from tests.runner.supervisor_children import alive, children
from tests.servers import free_port

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

Start = Callable[..., Process]
Eventually = Callable[..., Any]
LINUX = sys.platform.startswith("linux")
linux = pytest.mark.skipif(not LINUX, reason="reads /proc")


@pytest.fixture
def start_supervisor(
    start_process: Start, eventually: Eventually
) -> Iterator[Callable[..., tuple[Process, list[int]]]]:
    """``start_supervisor("--concurrency=1", …)``: with two runners, which run when it returns."""
    started: list[Process] = []

    def start(*arguments: str, **environment: str) -> tuple[Process, list[int]]:
        process = start_process("runstator", "--processes=2", *arguments, **environment)
        started.append(process)
        eventually(lambda: len(children(process)) == 2 or process.ended, 40)
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
    def test_they_run_rows_and_are_replaced_until_all_are_told_to_stop(
        self,
        start_supervisor: Any,
        waiting_rows: Any,
        eventually: Eventually,
        asking_project: Callable[..., dict[str, str]],
        tmp_path: Path,
    ) -> None:
        """A supervisor's life: to start its processes takes longer than all that is looked at."""
        port, file = free_port(), tmp_path / "alive"
        process, pids = start_supervisor(
            "tests.Noop", "tests.Trouble", "--deadline=60", "--poll-interval=0.5",
            f"--liveness-file={file}", f"--health-port={port}", **asking_project(),
        )  # fmt: skip
        first, second = pids
        assert process.pid not in pids
        if LINUX:
            has_one_thread(process, pids, eventually)
            has_no_descriptor_of_a_database_and_gives_none_on(process, pids)
        eventually(file.exists, 40)
        assert children(process) == pids, "the file means all of them"
        rows = [Noop.objects.create() for _ in range(20)]
        eventually(lambda: set(states(rows)) == {"done"}, 20)
        assert count(process, "INFO Supervising 2 processes.\n") == 1
        has_health_of_all_on_one_port(port, eventually)

        os.kill(first, signal.SIGKILL)
        eventually(lambda: page(port, "/readyz")[0] == 503)
        eventually(lambda: page(port, "/readyz") == (200, "ok\n"), 40)
        said = f"WARNING Process 1 (pid {first}) has ended unexpectedly (killed by signal 9); "
        assert count(process, said) == 1
        assert count(process, "has ended unexpectedly") == 1
        assert second in children(process)

        os.kill(second, signal.SIGTERM)  # by somebody else than the supervisor
        eventually(lambda: len(found := children(process)) == 2 and second not in found, 40)
        assert count(process, f"(pid {second}) has ended unexpectedly (exit code 0)") == 1
        assert count(process, "has ended unexpectedly") == 2
        row = Noop.objects.create()
        eventually(lambda: fresh(row).state == "done", 20)

        pids = children(process)
        waiting = waiting_rows()
        process.send(signal.SIGTERM)
        said = "INFO Stopping all processes (SIGTERM).\n"
        eventually(lambda: count(process, said) == 1)
        Trouble.objects.update(value=1)
        assert process.wait(60) == 0, process.stderr
        assert states(waiting) == ["done", "done"]
        assert process.stdout.count("stopped: moved=") == 3, "the second one, and its like now"
        assert not any(map(alive, pids))
        assert count(process, said) == 1

    def test_what_one_dies_of_is_a_reason_to_start_again(
        self, start_supervisor: Any, eventually: Eventually
    ) -> None:
        """Too many abandoned threads, and a check that ends its process with 1.

        That is no wrong configuration, not in the first claim of the first process either.
        """
        Trouble.objects.create(mode="exit")
        process, _ = start_supervisor(
            "tests.Trouble", "--concurrency=2", "--deadline=0.2", "--drain-timeout=0.2",
            FSMWORKER_MAX_ABANDONED="1",
        )  # fmt: skip
        eventually(lambda: count(process, "has ended unexpectedly (exit code 1)") == 1, 30)
        assert count(process, "Process 1 (pid ") == 1

        for _ in range(4):
            Trouble.objects.create(mode="sleep", value=60)

        eventually(lambda: "has ended unexpectedly (exit code 3)" in process.stderr, 60)
        assert not process.ended

    def test_one_that_cannot_start_when_another_could_is_tried_again(self) -> None:
        """The configuration is the same: the database went away, or has no connection left."""
        supervisor = Supervisor(RunnerSettings(processes=2))
        first, second = supervisor._children
        first.has_been_up = True

        supervisor._decide(second, 42, 1, "exit code 1")

        assert second.due is not None
        assert not second.finished
        assert not supervisor._stopping


def wanting(supervisor: Supervisor) -> list[Child]:
    """The supervisor's children, which run and have reached a limit."""
    for child in supervisor._children:
        child._process = Running()  # type: ignore[assignment]
        child.has_been_up = child.wants_replacement = True
    return supervisor._children


class Running:
    """A process that goes on, whatever it is told."""

    pid = 42

    def send_signal(self, number: int) -> None:
        pass


class TestReplacing:
    def test_it_is_one_at_a_time_until_the_successor_is_up(self) -> None:
        supervisor = Supervisor(RunnerSettings(processes=3))
        children = wanting(supervisor)
        replaced = []

        for child in children:
            for _ in range(2):
                supervisor._replace_one()
            replaced.append([each.number for each in children if each.being_replaced])
            child._process = None
            supervisor._decide(child, 42, 0, "exit code 0")
            assert child.due is not None
            supervisor._replace_one()
            assert [each.number for each in children if each.being_replaced] == replaced[-1]
            says_that_it_is_up(child)

        assert replaced == [[1], [2], [3]]

    def test_one_that_is_then_to_stay_away_keeps_no_other_from_it(self) -> None:
        supervisor = Supervisor(RunnerSettings(processes=2))
        first, second = wanting(supervisor)
        supervisor._replace_one()

        first.ends_for_good = True
        supervisor._decide(first, 42, 0, "exit code 0")
        supervisor._replace_one()

        assert first.finished
        assert second.being_replaced

    @pytest.mark.parametrize(("run_for", "follows"), [(60.0, True), (0.0, False)])
    def test_the_rest_of_a_time_is_for_the_successor(self, run_for: float, follows: bool) -> None:
        supervisor = Supervisor(RunnerSettings(processes=1), run_for)
        (child,) = wanting(supervisor)
        child.due = None
        supervisor._replace_one()

        supervisor._decide(child, 42, 0, "exit code 0")

        assert (child.finished, child.due is not None) == (not follows, follows)


def says_that_it_is_up(child: Child) -> None:
    child._is_new = True
    child.link, theirs = socket.socketpair()
    with theirs:
        theirs.send(b".")
        child.read_beats()
    child.hang_up()


class TestStopping:
    def test_one_that_everybody_gets_drains_all_the_same(
        self, start_supervisor: Any, waiting_rows: Any, eventually: Eventually
    ) -> None:
        process, pids = start_supervisor("tests.Trouble", "--deadline=60")
        rows = waiting_rows()

        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        for pid in (process.pid, *pids):
            os.kill(pid, signal.SIGINT)
        said = "INFO Stopping all processes (SIGINT).\n"
        eventually(lambda: count(process, said) == 1)
        Trouble.objects.update(value=1)

        assert process.wait(60) == 0, process.stderr
        assert states(rows) == ["done", "done"]
        assert process.stdout.count("stopped: moved=") == 2

    def test_the_second_ends_all_at_once(
        self, start_supervisor: Any, eventually: Eventually
    ) -> None:
        process, pids = start_supervisor("tests.Trouble", "--deadline=90", "--drain-timeout=90")
        rows = [Trouble.objects.create(mode="sleep", value=100) for _ in range(2)]
        eventually(lambda: Trouble.objects.running().count() == 2)

        process.send(signal.SIGTERM)
        eventually(lambda: "Stopping all processes" in process.stderr)
        process.send(signal.SIGINT)

        assert process.wait(20) == 128 + signal.SIGINT
        eventually(lambda: not any(map(alive, pids)), 20)
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
        eventually(lambda: "Supervising 2 processes" in process.stderr, 40)

        process.send(signal.SIGTERM)

        assert process.wait(40) == 0, process.stderr

    def test_children_end_in_order_when_their_supervisor_is_killed(
        self, start_supervisor: Any, waiting_rows: Any, eventually: Eventually
    ) -> None:
        process, pids = start_supervisor("tests.Trouble", "--deadline=60")
        rows = waiting_rows()

        process.send(signal.SIGKILL)
        process.wait()
        Trouble.objects.update(value=1)

        eventually(lambda: not any(map(alive, pids)), 40)
        assert states(rows) == ["done", "done"]
        assert process.stdout.count("stopped: moved=") == 2


class TestStart:
    def test_an_unreachable_database_is_tried_for_a_while_and_said_once(
        self, start_process: Start, tmp_path: Path, vendor: str
    ) -> None:
        # A port where nobody listens; a folder where a file is wanted.
        url = f"sqlite:///{tmp_path}"
        if vendor != "sqlite":
            scheme = {"postgresql": "postgres", "mysql": "mysql"}[vendor]
            url = f"{scheme}://nobody:secret@127.0.0.1:1/nowhere"
        began = time.monotonic()

        process = start_process(
            "runstator", "--processes=3", "--connect-timeout=1.5", "--verbosity=0",
            DATABASE_URL=url,
        )  # fmt: skip

        assert process.wait(60) == 1
        assert time.monotonic() - began > 1
        (line,) = process.stderr.splitlines()
        assert line.startswith("CommandError: The database 'default' cannot be reached (")
        assert line.endswith("); start it, or correct DATABASES['default'].")
        assert "secret" not in line

    def test_a_setting_that_is_wrong_is_said_and_starts_no_child(
        self, start_process: Start
    ) -> None:
        process = start_process("runstator", "--processes=2", FSMWORKER_LEASE="long")

        assert process.wait(60) == 1
        assert (
            "the environment variable FSMWORKER_LEASE is 'long'; "
            "it has to be seconds above 0 (a number or a timedelta).\n" in process.stderr
        )
        assert "Supervising" not in process.stderr
        assert "Traceback" not in process.stderr

    def test_reload_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Command, "_called_from_command_line", True)

        with pytest.raises(CommandError) as refused:
            call_command("runstator", "--processes=2", "--reload")

        assert str(refused.value) == "--reload runs a single process; add --processes 1."

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
    def test_after_one_pass_of_each_of_as_many_as_the_setting_says(
        self, start_process: Start, tmp_path: Path
    ) -> None:
        rows = [Noop.objects.create() for _ in range(50)]
        hooked = tmp_path / "pids"

        process = start_process(
            "runstator", "tests.Noop", "--once",
            FSMWORKER_PROCESSES="2",
            FSMWORKER_START_HOOKS="tests.runner.hooked.write_pid",
            FSMWORKER_END_HOOKS="tests.runner.hooked.write_pid",
            PIDS=str(hooked),
        )  # fmt: skip

        assert process.wait(60) == 0, process.stderr
        assert set(states(rows)) == {"done"}
        assert count(process, "INFO Running tests.Noop") == 2
        assert process.stdout.count("stopped: moved=") == 2
        pids = [int(each) for each in hooked.read_text().split()]
        assert len(pids) == 4
        assert len(set(pids)) == 2
        assert process.pid not in pids, "the supervisor calls no hooks"

    def test_children_with_a_time_to_run_end_together(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Each has what is left of the time when it starts, and no other follows it."""
        file = tmp_path / "seconds"
        command = child_that(
            f"with open({str(file)!r}, 'a') as file: print(number, seconds, file=file)",
            "time.sleep(float(seconds))",
        )
        began = time.monotonic()

        code = Supervisor(RunnerSettings(processes=2), run_for=1, command=command).run()

        assert code == 0
        assert time.monotonic() - began >= 1
        (first, left_of_all), (second, left) = map(str.split, file.read_text().splitlines())
        assert (first, second) == ("1", "2")
        assert 0 < float(left) < float(left_of_all) <= 1
        assert "ended unexpectedly" not in caplog.text

    def test_a_death_in_a_pass_is_its_exit_code(self, caplog: pytest.LogCaptureFixture) -> None:
        """The first of two is killed once it is up, and is not started again."""
        command = child_that("if number == '1': os.kill(os.getpid(), signal.SIGKILL)")

        code = Supervisor(RunnerSettings(processes=2), run_for=0, command=command).run()

        assert code == 128 + signal.SIGKILL
        (line,) = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
        assert re.fullmatch(
            r"Process 1 \(pid \d+\) has ended unexpectedly \(killed by signal 9\)\.", line
        )


def child_that(*does: str) -> list[str]:
    """A command for the supervisor that says that it is up, and then does this, without Django."""
    program = [
        "import os, signal, socket, time",
        f"descriptor, seconds, number, *_ = os.environ['{LINK}'].split(':')",
        "link = socket.socket(fileno=int(descriptor))",
        "link.send(b'.')",
        *does,
    ]
    return [sys.executable, "-c", "\n".join(program)]


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


@pytest.fixture
def asking_project(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """``asking_project(extra)``: the environment of one with a system check that connects."""

    def write(extra: str = "") -> dict[str, str]:
        (tmp_path / "asking_settings.py").write_text(PROJECT.format(extra=extra))
        return {
            "DJANGO_SETTINGS_MODULE": "asking_settings",
            "PYTHONPATH": f"{ROOT}:{tmp_path}",
        }

    return write


def has_one_thread(process: Process, pids: list[int], eventually: Eventually) -> None:
    # A child starts its threads after it has said that it runs.
    eventually(lambda: len(list(Path(f"/proc/{pids[0]}/task").iterdir())) > 10)
    assert len(list(Path(f"/proc/{process.pid}/task").iterdir())) == 1


def has_no_descriptor_of_a_database_and_gives_none_on(process: Process, pids: list[int]) -> None:
    held = descriptors(process.pid)
    sockets = sum(each.startswith("socket:") for each in held)
    assert sockets == 3, "the links to its children, and the port for health"
    assert not any("sqlite3" in each for each in held)
    for pid in pids:
        shared = held & descriptors(pid)
        assert not [each for each in shared if each.startswith(("socket:", "pipe:"))]


def has_health_of_all_on_one_port(port: int, eventually: Eventually) -> None:
    eventually(lambda: page(port, "/readyz") == (200, "ok\n"), 40)
    assert page(port, "/livez") == (200, "ok\n")
    expected = {f"http://127.0.0.1:{port}"}
    eventually(lambda: {each.health_address for each in workers.living()} == expected)
    up = {f'fsmworker_up{{process="{number}"}} 1.0' for number in (1, 2)}
    eventually(lambda: up <= set(page(port, "/metrics")[1].splitlines()), 20)


@linux
@pytest.mark.postgresql
class TestConnections:
    def test_postgresql_knows_of_none(
        self, start_supervisor: Any, asking_project: Any, eventually: Eventually
    ) -> None:
        name = "import os; OPTIONS = {'application_name': f'pid-{os.getpid()}'}"
        extra = f"{name}; DATABASES['default']['OPTIONS'] = OPTIONS"

        process, pids = start_supervisor("tests.Noop", **asking_project(extra))

        eventually(lambda: all(map(backends, pids)))
        assert backends(process.pid) == 0

    def test_a_pool_leaves_no_thread(
        self, start_supervisor: Any, asking_project: Any, eventually: Eventually
    ) -> None:
        extra = "DATABASES['default']['OPTIONS'] = {'pool': {'min_size': 2, 'max_size': 20}}"

        process, pids = start_supervisor("tests.Noop", **asking_project(extra))

        has_one_thread(process, pids, eventually)


def descriptors(pid: int) -> set[str]:
    """What a process has open beside its standard streams."""
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it has been closed meanwhile
            if int(each.name) > 2:
                found.add(os.readlink(each))
    return found


def backends(pid: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [f"pid-{pid}"]
        )
        return int(cursor.fetchone()[0])


class TestLiveness:
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
        self, now: Callable[[float], None], caplog: pytest.LogCaptureFixture
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

    def test_the_time_that_is_left_is_the_runner_s(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Supervised, "watch", lambda *args, **kwargs: None)
        ours, theirs = socket.socketpair()
        began = time.monotonic()
        with ours, theirs:
            run_process({None: [Noop]}, 300, {}, Supervised(theirs, 0.2), main_thread=False)

        assert 0.2 <= time.monotonic() - began < 100

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

        assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60).returncode == 1

    def test_a_child_does_not_wait_for_a_supervisor_that_does_not_read(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            link = Supervised(theirs, None)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            for _ in range(10_000):
                link.beat()
            ours.close()
            link.beat()
