"""SIGTERM before a runner is there, in the first process of a container."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.paths import ROOT

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

UNSHARE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
COMMANDS = {
    "manage.py": ["manage.py", "runstator", "tests.Noop"],
    "module": ["-m", "django_fsmworker", "tests.Noop"],
}


def unshares() -> bool:
    if not sys.platform.startswith("linux") or shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode == 0


class FirstProcess:
    """A command that is process 1 of its own namespace."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        with log.open("wb") as output:
            self._outer = subprocess.Popen(
                [*UNSHARE, sys.executable, *command],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._log = log
        self._children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")

    @property
    def pid(self) -> int | None:
        """Its number outside; None as long as there is none."""
        found = self._children.read_text().split()
        return int(found[0]) if found else None

    @property
    def hears(self) -> bool:
        """Whether it has a handler for SIGTERM."""
        with suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("SigCgt:"):
                    return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
        return False

    @property
    def output(self) -> str:
        return self._log.read_text()

    def terminate(self) -> None:
        assert self.pid is not None
        os.kill(self.pid, signal.SIGTERM)

    def wait(self) -> int:
        return self._outer.wait(60)

    def end(self) -> None:
        self._outer.kill()
        self._outer.wait()


@pytest.fixture
def start_first(
    database_env: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., FirstProcess]]:
    if not unshares():
        pytest.skip("needs a process namespace of its own")
    started: list[FirstProcess] = []

    def start(name: str, **environment: str) -> FirstProcess:
        both = {**database_env, **environment}
        started.append(FirstProcess(COMMANDS[name], both, tmp_path / "log"))
        return started[-1]

    yield start
    for process in started:
        process.end()


class TestFirstProcess:
    @pytest.mark.parametrize("name", COMMANDS)
    def test_ends_at_the_first_signal_that_it_can_hear(
        self,
        start_first: Callable[..., FirstProcess],
        eventually: Callable[..., Any],
        name: str,
        tmp_path: Path,
    ) -> None:
        # Its database is a folder, so that it does not come to run if the signal is late.
        process = start_first(name, DATABASE_URL=f"sqlite:///{tmp_path}")
        eventually(lambda: process.hears, every=0.001)

        process.terminate()

        assert process.wait() == 0
        assert "Running" not in process.output

    def test_drains_when_it_runs(
        self, start_first: Callable[..., FirstProcess], eventually: Callable[..., Any]
    ) -> None:
        process = start_first("module")
        eventually(lambda: "Running tests.Noop" in process.output, 60)

        process.terminate()

        assert process.wait() == 0
        assert "stopped: moved=0 " in process.output


class TestHandler:
    def ran(self, *lines: str) -> None:
        begin = "import signal, sys", "from django_fsmworker.early_signals import end_on_sigterm"
        program = "\n".join([*begin, *lines])
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)

    def test_nothing_of_django_is_imported_before_it(self) -> None:
        self.ran(
            "end_on_sigterm()",
            "assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL",
            "assert not [each for each in sys.modules if each.partition('.')[0] == 'django']",
        )

    def test_one_that_is_there_is_kept(self) -> None:
        """Ignored by nohup, say, or the project's own."""
        self.ran(
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
            "end_on_sigterm()",
            "assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN",
        )
