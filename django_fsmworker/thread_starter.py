"""Starting threads for code that may be interrupted.

Until a new thread runs, CPython 3.11 lists it under its parent's number and before its parent: an
exception injected into the parent just then (``PyThreadState_SetAsyncExc``) goes to the new thread.
That one dies before it has begun, and ``Thread.start()`` waits for it without end. So a check's own
thread starts none for the engine; a thread of which nobody has the number does.
"""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue

# Seconds between two looks whether a thread has begun.
BRIEFLY = 0.0005


class Start:
    """A thread to start, and why it could not be."""

    def __init__(self, thread: threading.Thread) -> None:
        self.thread = thread
        self.error: RuntimeError | None = None


class ThreadStarter(threading.Thread):
    """Starts the threads of others."""

    def __init__(self) -> None:
        super().__init__(name="fsmworker-starter", daemon=True)
        self.waiting: SimpleQueue[Start] = SimpleQueue()

    def run(self) -> None:
        while True:
            start = self.waiting.get()
            try:
                start.thread.start()
            except RuntimeError as error:  # the system has no more threads to give
                start.error = error


_lock = threading.Lock()
_starter: ThreadStarter | None = None


def prepare_to_start_threads() -> None:
    """Have a starter in this process; to be called before there is code to interrupt."""
    global _starter
    with _lock:
        if _starter is None or not _starter.is_alive():  # which it is not in a forked process
            _starter = ThreadStarter()
            _starter.start()


def start_elsewhere(thread: threading.Thread) -> None:
    """``thread.start()`` by the starter; whoever waits here may be interrupted.

    ``RuntimeError`` is raised as by ``thread.start()``.
    """
    assert _starter is not None, "prepare_to_start_threads() was not called"
    start = Start(thread)
    _starter.waiting.put(start)
    # Not for an event: an exception that comes while its lock is taken leaves it locked.
    while thread.ident is None:
        if start.error is not None:
            raise start.error
        time.sleep(BRIEFLY)
