"""The end of a supervisor's link that a child holds: how it tells, and how it is told.

The link is a pair of sockets. A byte from the child says that it makes progress; that the
supervisor's end closes says that the supervisor is gone, however it went.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress

LINK = "FSMWORKER_SUPERVISED"
BEAT = b"."


class Supervised:
    """What a child knows about being one."""

    def __init__(self, link: socket.socket, seconds_left: float | None) -> None:
        self._link = link
        self.seconds_left = seconds_left

    @classmethod
    def from_environment(cls) -> Supervised | None:
        """None if no supervisor started this process.

        The variable is taken away: processes that a check starts are not supervised.
        """
        descriptor, _, seconds = os.environ.pop(LINK, "").partition(":")
        if not descriptor or not _is_socket(int(descriptor)):
            return None
        link = socket.socket(fileno=int(descriptor))
        link.set_inheritable(False)
        return cls(link, float(seconds) if seconds else None)

    def beat(self) -> None:
        """Tell the supervisor that there is progress."""
        with suppress(OSError):  # It is gone, which the watch sees; or stopped, and reads nothing.
            self._link.send(BEAT, socket.MSG_DONTWAIT)

    def watch(self, stop: Callable[[], None], patience: float) -> None:
        """Call ``stop`` when the supervisor is gone; after ``patience`` seconds more, end."""
        threading.Thread(
            target=self._watch, args=(stop, patience), name="fsmworker-supervised", daemon=True
        ).start()

    def _watch(self, stop: Callable[[], None], patience: float) -> None:
        with suppress(OSError):
            while self._link.recv(1):
                pass
        stop()
        time.sleep(patience)
        os._exit(1)  # something that is not ours keeps this process from ending


def environment(link: socket.socket, seconds_left: float | None) -> dict[str, str]:
    """The environment of a child that is to hold ``link``."""
    left = "" if seconds_left is None else f"{seconds_left:.3f}"
    return {**os.environ, LINK: f"{link.fileno()}:{left}"}


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False
