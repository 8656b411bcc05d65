"""Several runners under one process, which has no threads and no database connections itself.

It sleeps until a signal comes, a child says something, or the pause before a restart is over.
"""

from __future__ import annotations

import logging
import selectors
import signal
import sys
import time
from collections.abc import Sequence

from django.db import connections

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.runner.processes.child import Child, as_exit_code, told
from django_fsmworker.runner.processes.signal_pipe import SignalPipe
from django_fsmworker.runner.watchdog import TOUCH_INTERVAL, Liveness

logger = logging.getLogger(__name__)

CONFIGURATION, USAGE = 1, 2


class Supervisor:
    """Starts ``settings.processes`` times the command of this process and looks after them.

    ``run_for`` is what each of them was told: None for ever, 0 one pass, or seconds.
    """

    def __init__(
        self,
        settings: RunnerSettings,
        run_for: float | None = None,
        command: Sequence[str] | None = None,
    ) -> None:
        command = command or [sys.executable, *sys.orig_argv[1:]]
        self._children = [Child(number, command) for number in range(1, settings.processes + 1)]
        self._run_for = run_for
        self._end = time.monotonic() + run_for if run_for else None
        self._liveness = Liveness(settings.liveness_file)
        self._fresh_for = 2 * TOUCH_INTERVAL + settings.watchdog_interval / 4
        self._selector = selectors.DefaultSelector()
        self._stopping = self._signalled = False
        self._refused = self._worst = 0

    def run(self) -> int:
        """Until all have ended; returns the exit code for the whole.

        0 if all ended cleanly, otherwise the highest of their codes; that of a child which could
        not start; 128 + n for a second signal n.
        """
        close_connections()
        signals = SignalPipe(signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
        with signals, self._selector:
            logger.info(
                "Supervising %d processes.", len(self._children), extra={"action": "supervising"}
            )
            self._selector.register(signals, selectors.EVENT_READ)
            try:
                return self._loop(signals)
            finally:
                for child in self._children:
                    child.hang_up()

    def _loop(self, signals: SignalPipe) -> int:
        while True:
            self._start_those_that_are_due()
            if all(child.finished for child in self._children):
                return self._refused or self._worst
            for key, _ in self._selector.select(self._seconds_to_wait()):
                if isinstance(key.data, Child):
                    self._hear(key.data)
            for number in signals.read():
                if number != signal.SIGCHLD and self._told_to_stop(number):
                    return 128 + number
            self._bury()

    def _start_those_that_are_due(self) -> None:
        """The first goes ahead alone: what keeps it from starting is then said only once."""
        for child in self._children[: None if self._first_has_been_up() else 1]:
            if child.due is not None and child.due <= time.monotonic():
                self._start(child)

    def _first_has_been_up(self) -> bool:
        return self._children[0].has_been_up or self._children[0].finished

    def _start(self, child: Child) -> None:
        left = None if self._end is None else max(self._end - time.monotonic(), 0.001)
        try:
            child.start(left)
        except OSError as error:
            child.hang_up()
            self._judge(child, None, 126, str(error))
        else:
            assert child.link is not None
            self._selector.register(child.link, selectors.EVENT_READ, child)

    def _seconds_to_wait(self) -> float | None:
        """Until the next start; None: until something happens."""
        among = self._children if self._first_has_been_up() else self._children[:1]
        due = [child.due for child in among if child.due is not None]
        return max(min(due) - time.monotonic(), 0.0) if due else None

    def _hear(self, child: Child) -> None:
        if not child.hear():
            self._hang_up(child)
        elif self._all_make_progress():
            self._liveness.touch()

    def _hang_up(self, child: Child) -> None:
        if child.link is not None:
            self._selector.unregister(child.link)
            child.hang_up()

    def _all_make_progress(self) -> bool:
        since = time.monotonic() - self._fresh_for
        return all(
            child.last_beat is not None and child.last_beat >= since
            for child in self._children
            if not child.finished
        )

    def _told_to_stop(self, number: int) -> bool:
        """Pass a signal on; True if it is the second, at which children and supervisor end."""
        second, self._signalled, self._stopping = self._signalled, True, True
        if not second:
            name = signal.Signals(number).name
            logger.info("Stopping all processes (%s).", name, extra={"action": "stopping"})
        self._send(signal.SIGKILL if second else signal.SIGTERM)
        return second

    def _send(self, number: signal.Signals) -> None:
        for child in self._children:
            child.send(number)

    def _bury(self) -> None:
        """Look which children have ended, and decide what follows."""
        for child in self._children:
            pid, code = child.pid, child.exit_code()
            if code is None:
                continue
            if child.link is not None:
                child.hear()  # its last word may be that it has been up
            child.last_beat = None
            self._hang_up(child)
            self._judge(child, pid, code, told(code))

    def _judge(self, child: Child, pid: int | None, code: int, reason: str) -> None:
        if self._stopping:
            # One that had not come so far as to handle the signal was ended by it: nothing is lost.
            self._finish(child, 0 if code == -signal.SIGTERM else code)
        elif code == 0 and self._run_for is not None:
            self._finish(child, 0)
        elif code in (CONFIGURATION, USAGE) and not child.has_been_up:
            self._refused = code
            child.finished = self._stopping = True
            self._send(signal.SIGTERM)
        elif self._time_is_over():
            logger.error(
                "Process %d (pid %s) has ended unexpectedly (%s).",
                child.number,
                pid,
                reason,
                extra={"action": "died"},
            )
            self._finish(child, code)
        else:
            child.start_again(pid, reason)

    def _finish(self, child: Child, code: int) -> None:
        child.finished = True
        self._worst = max(self._worst, as_exit_code(code))

    def _time_is_over(self) -> bool:
        """Whether a child that dies now has no second try: a single pass has none at all."""
        return self._run_for == 0 or (self._end is not None and time.monotonic() >= self._end)


def close_connections() -> None:
    """System checks may have asked a database; close what they opened, and pools' threads."""
    for connection in connections.all(initialized_only=True):
        connection.close()
        if hasattr(connection, "close_pool"):
            connection.close_pool()
