"""``runstator`` as a process: its exit codes, signals, and what it says when it cannot start."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.core.management import ManagementUtility
from django.db import connection

from django_fsmworker.models.companions import is_companion
from django_fsmworker.models.discovery import stator_models
from tests.app.models import Chain, CheckLog, Noop
from tests.paths import ROOT
from tests.runner.processes import Process
from tests.runner.rows import failure, fresh

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

Start = Callable[..., Process]
Eventually = Callable[..., Any]


class TestEnds:
    def test_a_pass_ends_with_0(self, start_process: Start) -> None:
        row = Noop.objects.create()

        process = start_process("runstator", "--once")

        assert process.wait() == 0
        assert fresh(row).state == "done"
        assert process.stdout.startswith("stopped: moved=1 ")

    def test_usage_ends_with_2(
        self, early_signals: None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            ManagementUtility(["manage.py", "runstator", "--concurrency=none"]).execute()

        assert ended.value.code == 2
        assert (
            "manage.py runstator: error: argument -c/--concurrency: "
            "'none' is not a whole number above 0\n" in capsys.readouterr().err
        )


@pytest.fixture
def early_signals() -> Iterator[None]:
    """What the command does about SIGTERM from its first moment on is undone."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


class TestSignals:
    def test_the_first_lets_running_checks_of_every_model_end_and_ends_with_0(
        self, start_process: Start, eventually: Eventually
    ) -> None:
        row = Chain.objects.create(pause=3)
        process = start_process("runstator")
        eventually(lambda: CheckLog.objects.exists())

        process.send(signal.SIGTERM)

        assert process.wait() == 0
        assert fresh(row).state == "second"
        assert process.stdout.startswith("stopped: moved=1 ")
        labels = ", ".join(each._meta.label for each in stator_models() if not is_companion(each))
        assert f"INFO Running {labels}, django_fsmworker.Event[" in process.stderr
        assert "] with 10 threads as " in process.stderr

    def test_the_second_ends_it_at_once(self, start_process: Start, eventually: Eventually) -> None:
        row = Chain.objects.create(pause=30)
        process = start_process("runstator", "tests.Chain", "--deadline=60")
        eventually(lambda: CheckLog.objects.exists())

        def signalled_until_it_ended() -> bool:
            process.send(signal.SIGTERM)
            return process.ended

        eventually(signalled_until_it_ended)

        assert process.wait() == 128 + signal.SIGTERM
        assert fresh(row).state == "first"

    def test_a_check_that_does_not_end_within_the_drain_timeout_is_freed(
        self, start_process: Start, eventually: Eventually
    ) -> None:
        row = Chain.objects.create(pause=30)
        process = start_process("runstator", "tests.Chain", "--deadline=60", "--drain-timeout=0.3")
        eventually(lambda: CheckLog.objects.exists())

        process.send(signal.SIGINT)

        assert process.wait() == 0
        freed = fresh(row)
        assert (freed.state, freed.state_failures, freed.state_claim) == ("first", 0, None)
        assert failure(row) is None
        assert "interrupted=1" in process.stdout


class TestStart:
    @pytest.mark.postgresql
    def test_a_server_that_comes_up_late_is_waited_for(
        self, start_process: Start, eventually: Eventually, server: Any
    ) -> None:
        row = Noop.objects.create()
        connection.close()

        with server.away():
            process = start_process("runstator", "--once", "--connect-timeout=30")
            eventually(lambda: _handles_sigterm(process.pid) or process.ended)
            assert not process.ended, process.stderr

        assert process.wait() == 0, process.stderr
        assert fresh(row).state == "done"

    @pytest.mark.sqlite
    def test_a_file_that_comes_late_is_waited_for(
        self, start_process: Start, eventually: Eventually, tmp_path: Path
    ) -> None:
        file, prepared = tmp_path / "late.sqlite3", tmp_path / "prepared.sqlite3"
        file.mkdir()
        process = start_process("runstator", "--once", DATABASE_URL=f"sqlite:///{file}")
        eventually(lambda: _handles_sigterm(process.pid) or process.ended)
        with connection.cursor() as cursor:
            cursor.execute("VACUUM INTO %s", [str(prepared)])
        assert not process.ended, process.stderr

        file.rmdir()
        prepared.rename(file)

        assert process.wait() == 0

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
    def test_a_signal_while_it_waits_for_the_database_ends_it_with_0(
        self, start_process: Start, eventually: Eventually, tmp_path: Path
    ) -> None:
        process = start_process(
            "runstator", "--connect-timeout=60", DATABASE_URL=f"sqlite:///{tmp_path}"
        )
        eventually(lambda: _handles_sigterm(process.pid))

        process.send(signal.SIGTERM)

        assert process.wait() == 0, process.stderr

    def test_missing_migrations_are_said(
        self, start_process: Start, database_env: dict[str, str], tmp_path: Path, vendor: str
    ) -> None:
        url = f"sqlite:///{tmp_path / 'empty.sqlite3'}"
        if vendor != "sqlite":
            name = connection.settings_dict["NAME"]
            empty = {"postgresql": "postgres", "mysql": "mysql"}[vendor]
            url = database_env["DATABASE_URL"].replace(f"/{name}", f"/{empty}")

        process = start_process("runstator", "tests.Noop", DATABASE_URL=url)

        assert process.wait() == 1
        (line,) = process.stderr.splitlines()
        assert line.startswith("CommandError: The table of ")
        assert line.endswith("; run 'manage.py migrate --database default'.")


def _handles_sigterm(pid: int) -> bool:
    """Whether the process has put up a handler of its own for SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    (caught,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(int(caught, 16) & 1 << (signal.SIGTERM - 1))


class TestLogging:
    def test_the_root_logger_is_left_alone_and_verbosity_decides_how_much_is_said(
        self, database_env: dict[str, str]
    ) -> None:
        program = (
            "import django, logging, sys; django.setup()\n"
            "from django.core.management import call_command\n"
            "for verbosity in 0, 1, 2:\n"
            "    logging.getLogger('django_fsmworker').handlers.clear()\n"
            "    call_command('runstator', 'tests.Noop', once=True, verbosity=verbosity)\n"
            "    print('----', file=sys.stderr)\n"
            "print(logging.getLogger().handlers, logging.getLogger().level)\n"
        )

        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=database_env,
            capture_output=True,
            text=True,
            check=True,
        )

        assert done.stdout.splitlines()[-1] == f"[] {30}"
        said = done.stderr.split("----\n")
        assert ["Running tests.Noop" in each for each in said] == [False, True, True, False]
        assert "INFO Running tests.Noop with 10 threads as " in said[1]


class TestReload:
    def test_it_starts_again_when_code_changes(
        self,
        start_process: Start,
        eventually: Eventually,
        tmp_path: Path,
        database_env: dict[str, str],
    ) -> None:
        module = tmp_path / "reloaded_settings.py"
        source = "from tests.app.settings import *\n"
        module.write_text(source)
        process = start_process(
            "runstator",
            "tests.Noop",
            "--reload",
            DJANGO_SETTINGS_MODULE="reloaded_settings",
            PYTHONPATH=f"{database_env['PYTHONPATH']}:{tmp_path}",
        )
        first = Noop.objects.create()
        eventually(lambda: fresh(first).state == "done", 60)

        changes, next_change = count(), 0.0

        def changed_until_seen() -> bool:
            """The reloader looks once a second, and not before its thread has begun."""
            nonlocal next_change
            if time.monotonic() > next_change:
                next_change = time.monotonic() + 2
                changed = tmp_path / "changed"
                changed.write_text(
                    f"from tests.app.settings import *\n\nCHANGES = {next(changes)}\n"
                )
                changed.replace(module)
            return process.stderr.count("Running tests.Noop") > 1

        eventually(changed_until_seen, 60)
        second = Noop.objects.create()
        eventually(lambda: fresh(second).state == "done", 60)

        process.send(signal.SIGTERM)
        process.wait()
