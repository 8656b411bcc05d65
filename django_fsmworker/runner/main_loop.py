"""What the main loop waits on, whether it may claim, and whether a runner is alive.

The watchdog is about the main loop: one that has not come round dumps all stacks and ends the
process (embedded, it only reports). The liveness file is about progress: it is touched while due
rows find their way to a thread, or there are none.
"""

from __future__ import annotations

import faulthandler
import queue
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from django_fsmworker.logs import logger_for

logger = logger_for(__name__)

LOOKS = 4
TOUCH_INTERVAL = 10.0

# Seconds that orders may be old when rows are claimed, where no hint tells of them; and how long to
# wait for a look at them.
ORDERS_WITHIN = 2.0
LONGEST_LOOK = 1.0


class Wakeup:
    """Like ``threading.Event``, but safe to set in a signal handler of the thread that waits.

    An event takes a lock that the interrupted thread may be holding; ``SimpleQueue.put`` is
    reentrant (Python's documentation of ``queue.SimpleQueue`` says so).
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Wake the thread that waits, or the one that waits next."""
        if self._calls.empty():
            self._calls.put(None)

    def wait(self, timeout: float) -> None:
        """Wait until woken, for at most ``timeout`` seconds."""
        try:
            self._calls.get(timeout=max(timeout, 0.0))
        except queue.Empty:
            return
        self.clear()

    def clear(self) -> None:
        """Forget the calls so far."""
        while not self._calls.empty():
            self._calls.get()


def jittered(seconds: float) -> float:
    """A wait up to a fifth shorter than ``seconds``, so that a fleet does not look all at once."""
    return seconds * random.uniform(0.8, 1.0)


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
        """Note that the main loop has come round."""
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
        self._tell = on_progress or self.touch_file
        self._next = 0.0

    def touch(self) -> None:
        """Report progress, at most every ten seconds."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + TOUCH_INTERVAL
            self._tell()

    def touch_file(self) -> None:
        """Touch the file now, if there is one."""
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


class OrderHints(Protocol):
    """What knows whether orders are heard of at once."""

    @property
    def tell_of_orders(self) -> bool:
        """Whether hints tell of them, in every database."""


class Duty:
    """Whether rows may be taken up; what runs is not concerned.

    Not while the runner is suspended, nor in a database in which it has been silent for so long
    that others will soon call it lost. Times are ``time.monotonic()`` seconds. A runner that is on
    no register has no restrictions. ``on_change`` is called when there may be more to do, or less;
    ``ask`` is set by whoever looks for orders, and ``hinted`` to what knows whether hints tell of
    them.
    """

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        self.suspended = False
        self.ask: Callable[[], None] | None = None
        self.hinted: OrderHints | None = None
        self._looked = threading.Condition()
        self._looked_at = float("-inf")
        self._known_until: dict[str, float] = {}
        self._on_change = on_change

    def may_claim(self, alias: str) -> bool:
        """Whether rows of the database ``alias`` may be taken up."""
        return not self.suspended and not self.is_unknown(alias)

    def is_unknown(self, alias: str) -> bool:
        """Whether others will soon call this runner lost, or do so already."""
        until = self._known_until.get(alias)
        return until is not None and time.monotonic() >= until

    @property
    def hears_of_orders(self) -> bool:
        """Whether hints tell of orders at once."""
        return self.hinted is not None and self.hinted.tell_of_orders

    def look(self) -> None:
        """Wait for a look at the orders, before rows are claimed, if the last one is too old."""
        if self.ask is None or self.hears_of_orders:
            return
        since = time.monotonic() - ORDERS_WITHIN
        if self._looked_at < since:
            self.ask()
            with self._looked:
                self._looked.wait_for(lambda: self._looked_at >= since, LONGEST_LOOK)

    def looked(self, moment: float) -> None:
        """Note that the orders were looked at."""
        with self._looked:
            self._looked_at = moment
            self._looked.notify_all()

    def known_until(self, alias: str, moment: float) -> None:
        """Note until when nobody who looks into the database ``alias`` calls this runner lost."""
        before, self._known_until[alias] = self.is_unknown(alias), moment
        if before:
            self._on_change()

    def suspend(self) -> None:
        """Let nothing more be taken up."""
        if not self.suspended:
            self.suspended = True
            self._on_change()

    def resume(self) -> None:
        """Let rows be taken up again."""
        self.suspended = False
        self._on_change()
