"""Waking the main loop, from any thread and from a signal handler."""

from __future__ import annotations

import queue


class Wakeup:
    """Like ``threading.Event``, but safe to set in a signal handler of the thread that waits.

    An event takes a lock that the interrupted thread may be holding; ``SimpleQueue.put`` is
    reentrant (Python's documentation of ``queue.SimpleQueue`` says so).
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Wake whoever waits, or whoever waits next."""
        if self._calls.empty():
            self._calls.put(None)

    def wait(self, timeout: float) -> None:
        """Wait until woken, for at most ``timeout`` seconds."""
        try:
            self._calls.get(timeout=max(timeout, 0.0))
        except queue.Empty:
            return
        self.clear()

    def clear(self) -> None:
        """Forget the calls so far."""
        while not self._calls.empty():
            self._calls.get()
