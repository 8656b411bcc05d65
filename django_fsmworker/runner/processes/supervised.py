"""A child's end of the link to its supervisor.

The link is a pair of sockets. A byte from the child says that it makes progress, that it has
reached a limit and wants to be replaced, or that it was told to stop for good; that the
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
BEAT, REPLACE, FOR_GOOD = b".", b"r", b"s"


class Supervised:
    """The link to the supervisor that started this process, and the seconds that it has left.

    ``number`` is that of the process among its supervisor's, from 1 on; ``reports`` the folder for
    reports on its metrics, empty if nobody asks for them.
    """

    def __init__(
        self,
        link: socket.socket,
        seconds_left: float | None,
        number: int = 0,
        reports: str = "",
    ) -> None:
        self._link = link
        self.seconds_left = seconds_left
        self.number = number
        self.reports = reports

    @classmethod
    def from_environment(cls) -> Supervised | None:
        """The link of this process; None if no supervisor started it.

        The variable is taken away: processes that a check starts are not supervised.
        """
        words = (os.environ.pop(LINK, "") + ":::").split(":", 3)
        descriptor, seconds, number, folder = words[0], words[1], words[2], words[3].rstrip(":")
        if not descriptor or not _is_socket(int(descriptor)):
            return None
        link = socket.socket(fileno=int(descriptor))
        link.set_inheritable(False)
        return cls(link, float(seconds) if seconds else None, int(number or 0), folder)

    def beat(self) -> None:
        """Send the supervisor a sign of progress."""
        self._say(BEAT)

    def ask_to_be_replaced(self) -> None:
        """Tell the supervisor that a limit is reached; it ends this process when it is its turn."""
        self._say(REPLACE)

    def stop_for_good(self) -> None:
        """Tell the supervisor that nothing is to come in this process's place."""
        self._say(FOR_GOOD)

    def _say(self, word: bytes) -> None:
        with suppress(OSError):  # It is gone, which the watch sees; or stopped, and reads nothing.
            self._link.send(word, socket.MSG_DONTWAIT)

    def watch(self, stop: Callable[[], None], patience: float) -> None:
        """Call ``stop`` when the supervisor is gone, and end after ``patience`` seconds more."""
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


def environment(
    link: socket.socket, seconds_left: float | None, number: int = 0, reports: str = ""
) -> dict[str, str]:
    """The environment of the child with this number that is to hold ``link``."""
    left = "" if seconds_left is None else f"{seconds_left:.3f}"
    return {**os.environ, LINK: f"{link.fileno()}:{left}:{number}:{reports}"}


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False
