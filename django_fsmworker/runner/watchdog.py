"""Two answers to the question whether a runner is alive.

The watchdog is about the main loop: one that has not come round dumps all stacks and ends the
process (embedded, it only reports). The liveness file is about progress: it is touched while due
rows find their way to a thread, or there are none.
"""

from __future__ import annotations

import faulthandler
import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)

LOOKS = 4
TOUCH_INTERVAL = 10.0


class Watchdog(threading.Thread):
    """Looks at the loop several times an interval and counts looks, not seconds.

    A process that was stopped and goes on, or a machine that slept, is no stall.
    """

    def __init__(self, interval: float, on_stall: Callable[[], None]) -> None:
        super().__init__(name="fsmworker-watchdog", daemon=True)
        self._pause = interval / LOOKS
        self._on_stall = on_stall
        self._stopped = threading.Event()
        self._beats = 0

    def beat(self) -> None:
        """The main loop has come round."""
        self._beats += 1

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def run(self) -> None:
        seen, looks = -1, 0
        while not self._stopped.wait(self._pause):
            looks = looks + 1 if seen == self._beats else 0
            seen = self._beats
            if looks >= LOOKS:
                logger.critical(
                    "The main loop has not come round for %.0f s; the stacks follow on stderr.",
                    self._pause * LOOKS,
                    extra={"action": "stalled"},
                )
                faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr, all_threads=True)
                self._on_stall()
                looks = 0


class Liveness:
    """Touches a file while the runner makes progress, or calls ``on_progress`` instead."""

    def __init__(self, path: str | None, on_progress: Callable[[], None] | None = None) -> None:
        self._path = None if path is None else Path(path)
        self._tell = on_progress or self._touch_file
        self._next = 0.0

    def touch(self) -> None:
        """There is progress: say so, at most every ten seconds."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + TOUCH_INTERVAL
            self._tell()

    def _touch_file(self) -> None:
        if self._path is None:
            return
        try:
            self._path.touch()
        except OSError as error:
            logger.error(
                "The liveness file %s cannot be touched (%s).",
                self._path,
                error,
                extra={"action": "liveness"},
            )
