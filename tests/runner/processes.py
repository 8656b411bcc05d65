"""``manage.py`` in processes of their own, on the test's databases."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.paths import ROOT


class Process:
    """Started at once; its output goes to files, so that it never waits for a reader.

    It has a session of its own, which ends with it: a child left behind would go on moving rows.
    """

    def __init__(self, arguments: Sequence[str], environment: dict[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._stdout = Path(self._folder.name, "stdout")
        self._stderr = Path(self._folder.name, "stderr")
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "manage.py"), *arguments],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        self.pid = self.process.pid

    @property
    def stdout(self) -> str:
        return self._stdout.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self._stderr.read_text(errors="replace")

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def started(self) -> bool:
        """Whether its runner says that it runs."""
        assert not self.ended, f"it ended: {self.stdout}\n{self.stderr}"
        return "Running " in self.stderr

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 60.0) -> int:
        """Its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it goes on: {self.stdout}\n{self.stderr}") from None

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        self._folder.cleanup()
