"""A child of the supervisor: a process, or the pause before the next one."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

from django_fsmworker.graph.backoff import exponential
from django_fsmworker.logs import logger_for
from django_fsmworker.runner.processes import supervised

logger = logger_for(__name__)

PAUSE = exponential(base=0.5, cap=30, jitter=0.5)
LIVED_WELL = 60.0


class Child:
    """One of the supervisor's children, in whose place one process follows another."""

    def __init__(self, number: int, command: Sequence[str], reports: str = "") -> None:
        self.number = number
        self._reports = reports
        self.finished = False
        self.has_been_up = False
        self.last_beat: float | None = None
        self.was_up = time.monotonic()
        self.wants_replacement = self.being_replaced = self.ends_for_good = False
        self.due: float | None = 0.0
        self.link: socket.socket | None = None
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._deaths = 0
        self._is_new = True
        self._started = 0.0

    def start(self, seconds_left: float | None) -> None:
        """Execute the command anew, with no descriptor of ours but its end of the link.

        The process has a session of its own, since Ctrl-C signals everybody in the terminal's: it
        is told to stop by its supervisor. Raises ``OSError``.
        """
        self.due, self.last_beat, self._started = None, None, time.monotonic()
        self.wants_replacement, self._is_new = False, True
        self.link, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                env=supervised.environment(theirs, seconds_left, self.number, self._reports),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    @property
    def pid(self) -> int | None:
        """The id of the process, if one runs."""
        return None if self._process is None else self._process.pid

    def read_beats(self) -> bool:
        """Read what the process has said; False if it has closed the link."""
        assert self.link is not None
        with suppress(OSError):
            if said := self.link.recv(4096, socket.MSG_DONTWAIT):
                self.has_been_up = True
                self.last_beat = self.was_up = time.monotonic()
                self.being_replaced &= not self._is_new
                self.wants_replacement |= supervised.REPLACE in said
                self.ends_for_good |= supervised.FOR_GOOD in said
                return True
        return False

    def hang_up(self) -> None:
        """Close the link, which no selector may know any more."""
        if self.link is not None:
            self.link.close()
            self.link = None

    def exit_code(self) -> int | None:
        """The return code of a process that has ended (``-n``: by signal n), once."""
        code = None if self._process is None else self._process.poll()
        if code is not None:
            self._process = None
        return code

    def send(self, number: signal.Signals) -> None:
        """Signal the process, if there is one; without one the child is finished."""
        self.due = None
        if self._process is None:
            self.finished = True
        else:
            self._process.send_signal(number)

    def replace(self) -> None:
        """Let the process drain; the next one is to follow at once."""
        self.being_replaced, self.wants_replacement, self._is_new = True, False, False
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def follow(self) -> None:
        """Plan the next process for now, in the place of one that ended as it should."""
        self.due = time.monotonic()

    def start_again(self, pid: int | None, reason: str) -> None:
        """Plan the next process; the more of them have died young, the longer the pause."""
        young = time.monotonic() - self._started < LIVED_WELL
        self._deaths = self._deaths + 1 if young else 1
        pause = PAUSE(self._deaths)
        self.due = time.monotonic() + pause
        logger.warning(
            "Process %d (pid %s) has ended unexpectedly (%s); it is started again in %.1f s.",
            self.number,
            pid,
            reason,
            pause,
            extra={"action": "restart"},
        )
