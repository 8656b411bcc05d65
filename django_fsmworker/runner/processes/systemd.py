"""Telling systemd how a service is doing: its protocol ``sd_notify``, in a few lines.

A service of ``Type=notify`` is started once it says ``READY=1``. With ``WatchdogSec=`` it is killed
unless it says ``WATCHDOG=1`` often enough. See systemd's manual, ``sd_notify(3)``.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

VARIABLE = "NOTIFY_SOCKET"


class ServiceManager:
    """The process that started this one, if it listens; otherwise nothing is said.

    The variable is taken away: processes that this one starts are no services.
    """

    def __init__(self, address: str | None = None) -> None:
        self._address = os.environ.pop(VARIABLE, "") if address is None else address
        self._ready = False

    @property
    def listens(self) -> bool:
        """Whether anybody is told anything."""
        return bool(self._address)

    def ready(self) -> None:
        """Say once that the service works from now on."""
        if not self._ready:
            self._ready = True
            self._say("READY=1")

    def alive(self) -> None:
        """Say that the service makes progress; the first time, that it is ready."""
        self.ready()
        self._say("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the service drains."""
        self._say("STOPPING=1")

    def _say(self, state: str) -> None:
        if not self._address:
            return
        # A name that begins with @ stands for one in Linux' abstract namespace.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            sending.connect(address)
            sending.send(state.encode())
