"""SIGTERM and SIGINT for a command on the main thread: drain at the first, end at the second."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Self

from django_fsmworker.runner.processes.exit_codes import of_signal

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stopping_on_signals(stop: Callable[[], None], *, patient: bool = False) -> Iterator[None]:
    """Call ``stop`` at the first signal; the handlers that were there before are put back.

    A ``patient`` process does not end at the second: process managers signal every process of a
    service, a supervisor passes on what it got, and it is the supervisor who ends its children.
    """
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received and not patient:
            sys.stderr.flush()
            os._exit(of_signal(number))
        received.append(number)
        stop()

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class SignalPipe:
    """A context manager in which the signals named are not acted on, but can be read.

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
        """The descriptor to select on."""
        return self._reads

    def read(self) -> list[int]:
        """The numbers of the signals that have come since the last call."""
        with suppress(BlockingIOError):
            return [number for number in os.read(self._reads, 4096) if number in self._numbers]
        return []


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing; without a handler in Python no number would be written into the pipe."""
