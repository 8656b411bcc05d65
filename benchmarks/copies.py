"""What ``python -m`` would start, in a copy of this process, which has imported it all."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO


class Copy:
    """As much of ``subprocess.Popen`` as a worker needs; on the database of this process."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], output: IO[bytes]
    ) -> None:
        arguments = [*command[command.index("-m") + 1 :]]
        self._process = multiprocessing.get_context("fork").Process(
            target=_run, args=(arguments, environment, output.fileno())
        )
        self._process.start()
        self.pid = self._process.pid or 0
        self.terminate, self.kill = self._process.terminate, self._process.kill

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> None:
        self._process.join(timeout)
        if self._process.is_alive():
            raise subprocess.TimeoutExpired(str(self._process), timeout or 0)


def _run(arguments: list[str], environment: Mapping[str, str], output: int) -> None:
    """Forget what is of the original, and be ``python -m`` with these arguments."""
    from django.db import connections

    from benchmarks.app import models
    from benchmarks.runlog import VARIABLE, noter

    os.dup2(output, 1)
    os.dup2(output, 2)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    # Their sockets are the original's, which goes on using them: they are not to be closed.
    for alias in connections:
        del connections[alias]
    if VARIABLE in os.environ:
        models.note = noter()
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
