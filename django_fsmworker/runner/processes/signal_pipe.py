"""Signals as something to select on: no thread, no polling, on every POSIX system."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, suppress
from types import FrameType
from typing import Self


class SignalPipe:
    """While it is entered, the signals named are not acted on but can be read.

    ``signal.set_wakeup_fd`` writes the number of each into a pipe, so that one which comes between
    two looks is not missed (``sigtimedwait`` does not exist on macOS).
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._numbers = numbers
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        self._reads, self._writes = os.pipe()
        for descriptor in (self._reads, self._writes):
            self._undo.callback(os.close, descriptor)
            os.set_blocking(descriptor, False)
        before = signal.set_wakeup_fd(self._writes, warn_on_full_buffer=False)
        self._undo.callback(signal.set_wakeup_fd, before)
        for number in self._numbers:
            self._undo.callback(signal.signal, number, signal.signal(number, _ignore))
        return self

    def __exit__(self, *exception: object) -> None:
        self._undo.close()

    def fileno(self) -> int:
        """What to select on."""
        return self._reads

    def read(self) -> list[int]:
        """The signals that have come since the last call."""
        with suppress(BlockingIOError):
            return [number for number in os.read(self._reads, 4096) if number in self._numbers]
        return []


def _ignore(number: int, frame: FrameType | None) -> None:
    """A handler in Python; without one nothing would be written into the pipe."""
