"""``manage.py`` in processes of their own, on the test's databases."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


class Process:
    """Started at once; its output is kept in files, so that it never waits for a reader."""

    def __init__(self, arguments: Sequence[str], environment: dict[str, str]) -> None:
        self._files = ExitStack()
        self._stdout = self._files.enter_context(tempfile.TemporaryFile())
        self._stderr = self._files.enter_context(tempfile.TemporaryFile())
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._stdout,
            stderr=self._stderr,
        )
        self.pid = self.process.pid

    @property
    def stdout(self) -> str:
        return _read(self._stdout.fileno())

    @property
    def stderr(self) -> str:
        return _read(self._stderr.fileno())

    @property
    def started(self) -> bool:
        """Whether its runner says that it runs."""
        assert self.process.poll() is None, f"it ended: {self.stdout}\n{self.stderr}"
        return "Running " in self.stderr

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 30.0) -> int:
        """Its exit code."""
        return self.process.wait(seconds)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._files.close()


def _read(descriptor: int) -> str:
    """What is in the file, without moving the position at which the process writes."""
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    return content.decode(errors="replace")
