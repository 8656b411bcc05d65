"""A runner inside the test's process, on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from django_fsmworker.runner import StatorRunner
from django_fsmworker.runner.executors.thread_executor import CheckThread

QUICK: dict[str, Any] = {
    "concurrency": 4,
    "connect_timeout": 5,
    "drain_timeout": 5,
    "poll_interval": 0.1,
}


class Embedded:
    """Started at once; ``stop`` waits for its end and raises what it raised."""

    def __init__(
        self, start_thread: Callable[..., Any], models: Sequence[Any], options: dict[str, Any]
    ) -> None:
        self.runner = StatorRunner(models or None, **{**QUICK, **options})
        # An earlier test may have left a thread in a check that nothing ends.
        self._older = set(threading.enumerate())
        self._thread = start_thread(self.runner.run)

    @property
    def alive(self) -> bool:
        return bool(self._thread.is_alive())

    def total(self, name: str) -> int:
        """How often the runner counted ``name``."""
        return self.runner.counters.total(name)

    def working_threads(self) -> int:
        """How many of the runner's threads can take a row."""
        threads = [each for each in self._threads() if isinstance(each, CheckThread)]
        return sum(not each.abandoned for each in threads)

    def has_thread(self, name: str) -> bool:
        """Whether one of the runner's threads has this name."""
        return any(each.name == name for each in self._threads())

    def is_draining(self) -> bool:
        """Whether the runner hands back what has not started, and lets end what has."""
        return self.runner.status().draining

    def look_for_revoked(self, model: Any) -> None:
        """Have it look at once which of its rows others moved: the next renewal may be far off."""
        self.runner.parts.renewer.look_for_revoked(model)

    def overrun(self) -> None:
        """End all that runs, as the deadline would."""
        for executor in self.runner.parts.executors:
            for work in executor.running():
                executor.interrupt(work, "overran")
        self.runner.parts.deadlines.look_again()

    def has_overrun(self) -> bool:
        """Whether anything that runs was ended by its deadline."""
        executors = self.runner.parts.executors
        return any(work.overran for executor in executors for work in executor.running())

    def _threads(self) -> list[threading.Thread]:
        return [each for each in threading.enumerate() if each not in self._older]

    def stop(self, timeout: float | None = None) -> None:
        self.runner.stop(timeout)
        self._thread.result(30)


def one_pass(*models: Any, **options: Any) -> StatorRunner:
    """Run everything that is due now, on this thread."""
    runner = StatorRunner(models or None, **{**QUICK, **options})
    runner.run(run_for=0)
    return runner
