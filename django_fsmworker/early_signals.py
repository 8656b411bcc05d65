"""SIGTERM before a runner is there to hear it. This module imports nothing that takes time.

The first process of a container (PID 1) has no default handlers: a signal that nobody handles is
lost, and whoever sent it waits until its patience ends in SIGKILL.
"""

from __future__ import annotations

import os
import signal
from types import FrameType


def end_on_sigterm() -> None:
    """From now on SIGTERM ends the process with 0, unless somebody handles or ignores it already.

    Nothing has been run yet. A runner takes the handler's place when it starts.
    """
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(0)
