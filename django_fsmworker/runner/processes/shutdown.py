"""SIGTERM and SIGINT, for a command on the main thread: drain at the first, end at the second."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)

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
            os._exit(128 + number)
        received.append(number)
        stop()

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
