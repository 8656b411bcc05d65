"""A worker that has done a first piece of work and waits for more."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import proof
from benchmarks.contenders import Contender
from benchmarks.processes import Worker, WorkerFailed
from benchmarks.runlog import RunLog

START_SECONDS, LAST_SECONDS = 60.0, 30.0


@dataclass
class Service:
    """``keys`` are those of all pieces so far."""

    contender: Contender
    worker: Worker
    log: RunLog
    keys: list[int]

    def problems(self) -> list[str]:
        """Wait for the last piece, then prove that each ran once."""
        self.worker.wait_for(
            lambda: self.log.count() >= len(self.keys) and not self.contender.left(), LAST_SECONDS
        )
        handled = [key for key, _ in self.log.entries()]
        return proof.problems(self.keys, handled, self.contender.left())


@contextmanager
def serving(contender: Contender, quiet: float) -> Iterator[Service]:
    """Started, warm, and left alone for so many seconds."""
    keys = contender.prepare(1)
    with tempfile.TemporaryDirectory(prefix="fsmworker-benchmark-") as name:
        log = RunLog(Path(name))
        worker = contender.start(Path(name))
        try:
            if worker.wait_for(log.count, START_SECONDS) is None:
                raise WorkerFailed(f"{contender.name} did not run its first piece of work")
            time.sleep(quiet)
            yield Service(contender, worker, log, list(keys))
        finally:
            worker.stop()
