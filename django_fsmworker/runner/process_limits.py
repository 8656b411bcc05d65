"""The limits of one process: after so much work it ends, and a fresh one goes on."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.store import Ending

LOOK_INTERVAL = 1.0
MEBIBYTE = 1024 * 1024
FAILURES = (Ending.FAILED, Ending.OVERRAN)


class ProcessLimits:
    """Looks once a second at the most whether a limit of the settings is reached.

    ``total`` tells what the process has counted under a name.
    """

    def __init__(self, settings: RunnerSettings, total: Callable[[str], int]) -> None:
        self._tasks = settings.max_tasks
        self._failures = settings.max_failures
        self._memory = settings.max_memory
        self._total = total
        self._next = 0.0

    @classmethod
    def of(cls, settings: RunnerSettings, total: Callable[[str], int]) -> ProcessLimits | None:
        """The limits in the settings; None if there are none."""
        given = (settings.max_tasks, settings.max_failures, settings.max_memory)
        return cls(settings, total) if any(given) else None

    def reached(self) -> str | None:
        """What is reached, in words; None if nothing is, or it is not time to look."""
        now = time.monotonic()
        if now < self._next:
            return None
        self._next = now + LOOK_INTERVAL
        return self._look()

    def _look(self) -> str | None:
        if self._tasks is not None:
            tasks = sum(self._total(each) for each in Ending)
            if tasks >= self._tasks:
                return f"max_tasks ({tasks} of {self._tasks} attempts)"
        if self._failures is not None:
            failures = sum(self._total(each) for each in FAILURES)
            if failures >= self._failures:
                return f"max_failures ({failures} of {self._failures} failed attempts)"
        if self._memory is not None:
            memory = resident_memory() // MEBIBYTE
            if memory >= self._memory:
                return f"max_memory ({memory} of {self._memory} MiB)"
        return None


def resident_memory() -> int:
    """The bytes of memory that this process takes; the most it ever took, where no more is known.

    Linux tells in ``/proc``.
    """
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
