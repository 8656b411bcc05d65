"""What the runner knows of that which runs checks, be it threads or an event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from django_fsmworker.graph import State
from django_fsmworker.logs import logger_for
from django_fsmworker.runner.execution.outcomes import overrun_result
from django_fsmworker.runner.in_flight.attempts import Attempt, InFlight, Work, attempts_of
from django_fsmworker.runner.in_flight.queues import OnResult


class Executor(Protocol):
    """Takes work from the ready queue, runs its checks and passes on their results."""

    is_async: bool
    """Whether it runs ``async def`` checks."""

    def start(self) -> None:
        """Begin to take work."""

    def ensure_running(self) -> None:
        """Replace threads that are missing; ``RuntimeError`` if one that is essential has ended."""

    def running(self) -> list[Work]:
        """All work that was taken and has not ended, that of abandoned checks included."""

    def interrupt(self, work: Work, flag: str) -> None:
        """End a check that still runs; ``flag`` (overran, cancelled) decides on its result."""

    def enforce_deadlines(self) -> float:
        """Interrupt checks that overrun, abandon those that do not end.

        Returns the seconds until something is due again; called by the thread ``Deadlines`` only.
        """

    @property
    def size(self) -> int:
        """The number of checks that can run at once."""

    @property
    def abandoned(self) -> int:
        """The number of checks that were interrupted and do not end."""

    def stop(self, timeout: float) -> None:
        """End what takes no work any more, within ``timeout`` seconds; the queue is closed."""


logger = logger_for(__name__)


class Deadlines(threading.Thread):
    """Lets each executor enforce its deadlines, when the earliest of them is due.

    It also looks at half the ``shortest`` deadline there is, so that a check which starts meanwhile
    is seen in time: starting one costs nothing here.
    """

    def __init__(self, executors: Sequence[Executor], shortest: float) -> None:
        super().__init__(name="fsmworker-deadlines", daemon=True)
        self._executors = executors
        self._longest_sleep = shortest / 2
        self._stopped = False
        self._woken = threading.Event()

    def run(self) -> None:
        while not self._stopped:
            self._woken.wait(self._look())
            self._woken.clear()

    def stop(self) -> None:
        """End the thread."""
        self._stopped = True
        self._woken.set()

    def look_again(self) -> None:
        """Look at once: something was interrupted, and may have to be given up soon."""
        self._woken.set()

    def _look(self) -> float:
        """Do what is due; returns the seconds until something is again."""
        try:
            sleeps = [executor.enforce_deadlines() for executor in self._executors]
        except Exception:
            logger.exception("Looking after deadlines failed.", extra={"action": "deadlines"})
            return self._longest_sleep
        return max(min(self._longest_sleep, *sleeps), 0.001)


def longest_deadline(states: Iterable[State], default: float) -> float:
    """The longest deadline of the checks of ``states``, in seconds."""
    return max((state.deadline or default for state in states if state.checked), default=default)


def shortest_deadline(states: Iterable[State], default: float) -> float:
    """The shortest deadline among ``states``, in seconds; at most the default."""
    return min([default, *(state.deadline for state in states if state.deadline is not None)])


class Canceller:
    """Ends running checks, whichever executor runs them."""

    def __init__(
        self,
        executors: Sequence[Executor],
        in_flight: InFlight,
        on_result: OnResult,
        on_interrupt: Callable[[], None] = lambda: None,
    ) -> None:
        self._executors = executors
        self._in_flight = in_flight
        self._on_result = on_result
        self._on_interrupt = on_interrupt

    def lost(self, attempts: list[Attempt]) -> None:
        """Supersede attempts whose rows moved on, and end their checks, unless others need them."""
        if not attempts:
            return
        self._in_flight.supersede(attempts)
        self._end_superseded()

    def revoked(self, attempts: list[Attempt]) -> None:
        """Do the same for attempts whose claims were revoked: they hold their rows until they end.

        A check that has moved its own row is left to end by itself.
        """
        if attempts:
            self._in_flight.supersede(attempts, revoked=True)
            self._end_superseded()

    def interrupt(self, attempts: list[Attempt]) -> None:
        """End the checks of these attempts, whose rows are handed back: nothing is counted."""
        ended = set(attempts)
        for executor in self._executors:
            for work in executor.running():
                if not ended.isdisjoint(attempts_of(work)):
                    executor.interrupt(work, "cancelled")
        self._on_interrupt()

    def _end_superseded(self) -> None:
        for executor in self._executors:
            for work in executor.running():
                moved = [each.moved_by_its_check for each in attempts_of(work)]
                if work.superseded and not all(moved):
                    executor.interrupt(work, "cancelled")
        self._on_interrupt()

    def the_rest(self, drain_timeout: float) -> None:
        """End what still runs once the drain is over, and free its rows; no failure is counted."""
        running = [(executor, work) for executor in self._executors for work in executor.running()]
        for executor, work in running:
            if not work.overran:
                executor.interrupt(work, "cancelled")
            self._on_result(work, overrun_result(work) if work.overran else None)
        if running:
            logger.warning(
                "%d checks did not end within the drain timeout of %.0f s; they were interrupted.",
                len(running),
                drain_timeout,
                extra={"action": "drain_timeout"},
            )
