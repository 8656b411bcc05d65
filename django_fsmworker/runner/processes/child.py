"""One of a supervisor's children: a process, or the pause before the next one in its place."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

from django_fsmworker.graph.backoff import exponential
from django_fsmworker.runner.processes import supervised

logger = logging.getLogger(__name__)

PAUSE = exponential(base=0.5, cap=30, jitter=0.5)
LIVED_WELL = 60.0


class Child:
    """A place among the children, in which one process follows another."""

    def __init__(self, number: int, command: Sequence[str]) -> None:
        self.number = number
        self.finished = False
        self.has_been_up = False
        self.last_beat: float | None = None
        self.due: float | None = 0.0
        self.link: socket.socket | None = None
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._deaths = 0
        self._started = 0.0

    def start(self, seconds_left: float | None) -> None:
        """Execute the command anew, with no descriptor of ours but its end of the link.

        A session of its own, since Ctrl-C signals everybody in the terminal's: a child is told to
        stop by its supervisor. Raises ``OSError``.
        """
        self.due, self.last_beat, self._started = None, None, time.monotonic()
        self.link, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                env=supervised.environment(theirs, seconds_left),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    @property
    def pid(self) -> int | None:
        """The process now in this place."""
        return None if self._process is None else self._process.pid

    def hear(self) -> bool:
        """Take what the process has said; False if it will say nothing more."""
        assert self.link is not None
        with suppress(OSError):
            if self.link.recv(4096, socket.MSG_DONTWAIT):
                self.has_been_up = True
                self.last_beat = time.monotonic()
                return True
        return False

    def hang_up(self) -> None:
        """Close the link; selectors have to have forgotten it."""
        if self.link is not None:
            self.link.close()
            self.link = None

    def exit_code(self) -> int | None:
        """The code of a process that has ended (``-n``: by signal n), once."""
        code = None if self._process is None else self._process.poll()
        if code is not None:
            self._process = None
        return code

    def send(self, number: signal.Signals) -> None:
        """Signal the process, if there is one; without one the place is finished."""
        self.due = None
        if self._process is None:
            self.finished = True
        else:
            self._process.send_signal(number)

    def start_again(self, pid: int | None, reason: str) -> None:
        """Plan the next process, the later the more of them died young."""
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


def told(code: int) -> str:
    """An exit code of ``subprocess`` in words."""
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def as_exit_code(code: int) -> int:
    """The same as a shell would report it."""
    return 128 - code if code < 0 else code
