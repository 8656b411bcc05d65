"""Several runners under one process, which has no threads and no database connections itself.

It sleeps until a signal comes, a child sends a beat, or the pause before a restart is over.
"""

from __future__ import annotations

import selectors
import signal
import sys
import time
from collections.abc import Sequence
from typing import Protocol

from django.db import connections

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.logs import logger_for
from django_fsmworker.runner.main_loop import TOUCH_INTERVAL, Liveness
from django_fsmworker.runner.processes.child import Child
from django_fsmworker.runner.processes.exit_codes import ExitCode, as_exit_code, in_words, of_signal
from django_fsmworker.runner.processes.signals import SignalPipe
from django_fsmworker.runner.processes.systemd import ServiceManager

logger = logger_for(__name__)

# Seconds that a process may take to come up, beside its wait for databases.
TIME_TO_START = 60.0


class Served(Protocol):
    """What is served beside the processes: it can be waited for, and does not block."""

    def fileno(self) -> int:
        """A descriptor that can be read when there is something to serve."""

    def serve(self) -> None:
        """Serve what there is to serve."""

    def close(self) -> None:
        """Serve nothing any more."""


class Supervisor:
    """Starts the command of this process ``settings.processes`` times, and restarts what dies.

    ``run_for`` is what each process was told: None for ever, 0 one pass, or seconds. ``health`` is
    served in the same loop, if it is set before ``run()``. ``reports`` is the folder in which the
    processes report on their metrics.
    """

    def __init__(
        self,
        settings: RunnerSettings,
        run_for: float | None = None,
        command: Sequence[str] | None = None,
        reports: str = "",
    ) -> None:
        self.health: Served | None = None
        command = command or [sys.executable, *sys.orig_argv[1:]]
        numbers = range(1, settings.processes + 1)
        self._children = [Child(number, command, reports) for number in numbers]
        self._run_for = run_for
        self._end = time.monotonic() + run_for if run_for else None
        self._liveness = Liveness(settings.liveness_file, self._tell_of_progress)
        self._manager = ServiceManager()
        self._fresh_for = 2 * TOUCH_INTERVAL + settings.watchdog_interval / 4
        self._time_to_come_up = settings.connect_timeout + TIME_TO_START
        self._selector = selectors.DefaultSelector()
        self._stopping = self._signalled = False
        self._refused = self._worst = 0

    def run(self) -> int:
        """Supervise until all processes have ended; returns the exit code for the whole.

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
            if self.health is not None:
                self._selector.register(self.health, selectors.EVENT_READ, self.health)
            try:
                return self._loop(signals)
            finally:
                for child in self._children:
                    child.hang_up()
                if self.health is not None:
                    self.health.close()

    def pids(self) -> dict[int, int | None]:
        """The process of each number; None where there is none at the moment."""
        return {child.number: child.pid for child in self._children if not child.finished}

    def not_alive(self) -> list[str]:
        """Sentences about processes that make no progress; those that start or drain count not."""
        since = time.monotonic() - self._fresh_for
        sentences = []
        for child in self._children:
            if self._stopping or child.finished or child.being_replaced:
                continue
            if child.last_beat is None and child.was_up < since - self._time_to_come_up:
                sentences.append(f"Process {child.number} does not come up.")
            elif child.last_beat is not None and child.last_beat < since:
                sentences.append(f"Process {child.number} (pid {child.pid}) makes no progress.")
        return sentences

    def not_ready(self) -> list[str]:
        """Sentences about what keeps this from being up with all its processes."""
        if self._stopping:
            return ["It is stopping."]
        return self.not_alive() + [
            f"Process {child.number} is not up."
            for child in self._children
            if child.last_beat is None and not child.finished
        ]

    def _loop(self, signals: SignalPipe) -> int:
        while True:
            self._start_those_that_are_due()
            if all(child.finished for child in self._children):
                return self._refused or self._worst
            for key, _ in self._selector.select(self._seconds_to_wait()):
                if isinstance(key.data, Child):
                    self._read_beats(key.data)
                elif key.data is not None:
                    key.data.serve()
            for number in signals.read():
                if number != signal.SIGCHLD and self._told_to_stop(number):
                    return of_signal(number)
            self._reap()
            self._replace_one()

    def _start_those_that_are_due(self) -> None:
        """Start children; the first goes ahead alone, so that what prevents it is said once."""
        for child in self._children[: None if self._first_has_been_up() else 1]:
            if child.due is not None and child.due <= time.monotonic():
                self._start(child)

    def _first_has_been_up(self) -> bool:
        return self._children[0].has_been_up or self._children[0].finished

    def _one_has_been_up(self) -> bool:
        """Whether the configuration, which all have in common, has proven to be right."""
        return any(child.has_been_up for child in self._children)

    def _start(self, child: Child) -> None:
        left = None if self._end is None else max(self._end - time.monotonic(), 0.001)
        try:
            child.start(left)
        except OSError as error:
            child.hang_up()
            self._decide(child, None, ExitCode.NOT_STARTED, str(error))
        else:
            assert child.link is not None
            self._selector.register(child.link, selectors.EVENT_READ, child)

    def _seconds_to_wait(self) -> float | None:
        """The seconds until the next start; None: until something happens."""
        among = self._children if self._first_has_been_up() else self._children[:1]
        due = [child.due for child in among if child.due is not None]
        return max(min(due) - time.monotonic(), 0.0) if due else None

    def _read_beats(self, child: Child) -> None:
        if not child.read_beats():
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

    def _replace_one(self) -> None:
        """Let one of those that have reached a limit drain, once the last one's successor is up."""
        live = [child for child in self._children if not child.finished]
        if self._stopping or any(child.being_replaced for child in live):
            return
        for child in live:
            if child.wants_replacement and child.pid is not None:
                logger.info(
                    "Process %d (pid %s) has reached a limit and is replaced.",
                    child.number,
                    child.pid,
                    extra={"action": "replaced"},
                )
                child.replace()
                return

    def _tell_of_progress(self) -> None:
        self._manager.alive()
        self._liveness.touch_file()

    def _told_to_stop(self, number: int) -> bool:
        """Pass a signal on; true if it is the second, at which children and supervisor end."""
        self._manager.stopping()
        second, self._signalled, self._stopping = self._signalled, True, True
        if not second:
            name = signal.Signals(number).name
            logger.info("Stopping all processes (%s).", name, extra={"action": "stopping"})
        self._send(signal.SIGKILL if second else signal.SIGTERM)
        return second

    def _send(self, number: signal.Signals) -> None:
        for child in self._children:
            child.send(number)

    def _reap(self) -> None:
        """Collect the exit codes of children that have ended, and decide what follows."""
        for child in self._children:
            pid, code = child.pid, child.exit_code()
            if code is None:
                continue
            if child.link is not None:
                child.read_beats()  # the last may say that it has been up
            child.last_beat = None
            self._hang_up(child)
            self._decide(child, pid, code, in_words(code))

    def _decide(self, child: Child, pid: int | None, code: int, reason: str) -> None:
        if self._stopping:
            # One that had not come so far as to handle the signal was ended by it: nothing is lost.
            self._finish(child, 0 if code == -signal.SIGTERM else code)
        elif code == 0 and child.ends_for_good:
            self._finish(child, 0)
        elif code == 0 and child.being_replaced and not self._time_is_over():
            child.follow()
        elif code == 0 and self._run_for is not None:
            self._finish(child, 0)
        elif code in (ExitCode.CONFIGURATION, ExitCode.USAGE) and not self._one_has_been_up():
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
    """Close the connections, and the threads of pools, that system checks may have opened."""
    for connection in connections.all(initialized_only=True):
        connection.close()
        if hasattr(connection, "close_pool"):
            connection.close_pool()
