"""Reports of processes to their supervisor, which serves the metrics of all on one port.

A supervisor has no threads and asks nobody: each of its processes writes a file every few seconds,
in a folder that is theirs alone, and the supervisor reads what is there when it is asked.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from django_fsmworker.logs import logger_for
from django_fsmworker.metrics.families import Processes, Samples

logger = logger_for(__name__)

# Seconds between reports.
REPORT_INTERVAL = 5.0


class Reporter(threading.Thread):
    """A thread that writes what ``collect`` returns, until ``stop()``."""

    def __init__(self, folder: Path, collect: Callable[[], Samples]) -> None:
        super().__init__(name="fsmworker-metrics", daemon=True)
        self._path = report_path(folder, os.getpid())
        self._collect = collect
        self._stopped = threading.Event()

    def run(self) -> None:
        """Write once more every few seconds."""
        while True:
            self.report()
            if self._stopped.wait(REPORT_INTERVAL):
                return

    def report(self) -> None:
        """Write one report, in one go for whoever reads."""
        new = self._path.with_suffix(".new")
        try:
            new.write_text(json.dumps(self._collect()))
            new.replace(self._path)
        except Exception:
            logger.exception("Metrics could not be reported.", extra={"action": "metrics_failed"})

    def stop(self) -> None:
        """End the thread, and take the report back: a process that has ended says nothing."""
        self._stopped.set()
        if self.is_alive():
            self.join(5)
        with suppress(OSError):
            self._path.unlink()


def reports(folder: Path, pids: Mapping[int, int | None]) -> Processes:
    """The last reports of those that run (``pids`` by number); others are not up."""
    return {number: _report(folder, pid) for number, pid in pids.items()}


def _report(folder: Path, pid: int | None) -> Samples:
    down: Samples = {"fsmworker_up": [([], 0.0)]}
    if pid is None:
        return down
    try:
        found: Samples = json.loads(report_path(folder, pid).read_text())
    except OSError:
        return down
    return found


def report_path(folder: Path, pid: int) -> Path:
    """Where the process with this id reports."""
    return folder / f"{pid}.json"
