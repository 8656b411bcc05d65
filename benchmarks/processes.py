"""A worker under measurement: one or several processes, from their start to their end."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from benchmarks.copies import Copy
from tests.paths import ROOT

STOP_SECONDS = 60
LAST_WORDS = 2000

Process = subprocess.Popen[bytes] | Copy


class WorkerFailed(Exception):
    """It ended by itself or never got ready; the message has its last words."""


def outer_environment() -> dict[str, str]:
    """The environment without what tells our own sessions from a worker's."""
    return {name: value for name, value in os.environ.items() if name != "PGAPPNAME"}


# The database of which copies of this process may be started, instead of processes of their own.
_copied: list[str] = []


def start_copies(url: str) -> None:
    """From now on, of workers on that database, for a quick try: starting takes no time."""
    _copied.append(url)


def _launch(command: Sequence[str], environment: Mapping[str, str], output: IO[bytes]) -> Process:
    # One that starts others does so by a command; and of SQLite no copy can be made.
    if environment.get("DATABASE_URL") in _copied and "--processes" not in command:
        return Copy(command, environment, output)
    return subprocess.Popen(
        command, cwd=ROOT, env=dict(environment), stdin=subprocess.DEVNULL,
        stdout=output, stderr=output,
    )  # fmt: skip


class Worker:
    """Started at once; what it says goes to a file in `folder`."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        processes: int = 1,
    ) -> None:
        self._output = folder / "output"
        with self._output.open("wb") as output:
            self._processes = [_launch(command, environment, output) for _ in range(processes)]

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def wait_for(
        self, condition: Callable[[], object], seconds: float, every: float = 0.005
    ) -> float | None:
        """The moment at which `condition` came true; None if it did not within `seconds`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return time.monotonic()
            self.check()
            time.sleep(every)
        return None

    def check(self) -> None:
        """Raise ``WorkerFailed`` if a process has failed."""
        for process in self._processes:
            if process.poll():
                raise WorkerFailed(f"exit code {process.returncode}: {self.output[-LAST_WORDS:]}")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that does not end."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def processor_seconds(self) -> float:
        """What it and its children have computed so far."""
        return sum(_processor_seconds(pid) for pid in self.pids())

    def resident_bytes(self) -> int:
        """The memory that it and its children hold."""
        return sum(_resident_bytes(pid) for pid in self.pids())

    def pids(self) -> list[int]:
        return [pid for process in self._processes for pid in _family(process.pid)]


def _family(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    for children in _of_threads(pid, "children"):
        for child in children.split():
            yield from _family(int(child))


def _of_threads(pid: int, name: str) -> Iterator[str]:
    """What this file says of each thread, but of those that end while they are asked about."""
    for each in Path(f"/proc/{pid}/task").glob(f"*/{name}"):
        with suppress(FileNotFoundError, ProcessLookupError):
            yield each.read_text()


def _processor_seconds(pid: int) -> float:
    """From the scheduler's account, in nanoseconds; that of threads which have ended is lost."""
    return sum(int(account.split()[0]) for account in _of_threads(pid, "schedstat")) / 1e9


def _resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
