"""The runners: real processes, which can be stopped, killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings

from testapp.demo import checklog, places

STOP_SECONDS = 40

# On one machine four threads keep SQLite's single writer busy; twins are looked at every second.
OPTIONS = ("testapp.File", "--concurrency", "4", "--poll-interval", "1")


class RunnerEnded(Exception):
    """A runner ended although nobody asked it to; the message says how."""


@dataclass
class Runners:
    """`number` runners of the files, with `settings` in their environment; or as `options` say."""

    number: int
    settings: dict[str, str] = field(default_factory=dict)
    options: Sequence[str] = OPTIONS
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """Start as many as there have to be."""
        self.processes = [self._launch() for _ in range(self.number)]

    def check(self) -> None:
        """Raises ``RunnerEnded`` if one of them is gone."""
        for process in self.processes:
            if process.poll() is not None:
                raise RunnerEnded(
                    f"The runner {process.pid} ended by itself with status {process.returncode}. "
                    f"The last line of {places.runner_log()}: {_last_line(places.runner_log())}"
                )

    def pause(self) -> None:
        """Hold them where they are; returns when they stand still."""
        for process in self.processes:
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def go_on(self) -> None:
        """Let them go on after a pause."""
        for process in self.processes:
            process.send_signal(signal.SIGCONT)

    def kill(self) -> list[int]:
        """SIGKILL: they end between any two instructions. Returns their process ids."""
        for process in self.processes:
            process.kill()
        return [process.pid for process in self._reap()]

    def stop(self) -> None:
        """SIGTERM: they let running checks end, write what is done and hand back the rest."""
        for process in self.processes:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        self._reap()

    def _reap(self) -> list[subprocess.Popen[bytes]]:
        ended, self.processes = self.processes, []
        for process in ended:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            # Not before: for a runner that still lives it would be the second signal to stop.
            assert process.stdin is not None
            process.stdin.close()
        return ended

    def _launch(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "testapp.child", "runstator", *self.options]
        with places.runner_log().open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment(),
                # Ctrl-C is for the demo, which then stops its runners.
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        path = [str(settings.BASE_DIR), os.environ.get("PYTHONPATH", "")]
        return {
            **os.environ,
            # Few rows in hand: they come to their end one after the other, not all at last.
            "FSMWORKER_MAX_IN_FLIGHT": "200",
            **self.settings,
            checklog.VARIABLE: str(places.check_log()),
            "DATA_DIR": str(settings.DATA_DIR),
            # A module compiled meanwhile would be a new file in the standard library's folder.
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
        }


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "(it is empty)"
