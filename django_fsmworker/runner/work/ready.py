"""Claimed rows that wait to be run, and the rules by which they start."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from django_fsmworker.runner.work.attempt import Attempt
from django_fsmworker.runner.work.batch import Batch, Work, together
from django_fsmworker.runner.work.turns import Turns

LONGEST_HOLD = 5.0

Nothing = Callable[[], None]


class ReadyQueue:
    """Models take turns, each first come, first served; no model runs more checks at once than its
    cap, and suspects run by themselves. The caps and the suspects are those of both kinds of check
    together; the lines are apart, so that a crowd of one kind holds up nobody of the other.

    A suspect (its lease had lapsed, so the process that ran it may have died of it) starts alone:
    until it ends nothing else starts. One that has lapsed more than once also waits, for a few
    seconds, until nothing else runs. Suspects that cannot start yet go to the end of their line, so
    the others get a turn.

    Where a check gets a batch of rows, it passes through here as one; what is said of a row holds
    for the call.

    The usual row passes without taking a lock: ten threads that share one lock wait for each other
    and for Python's own, which was measured at a sixth of the throughput.
    """

    def __init__(
        self,
        cap: int | None,
        give_back: Callable[[Work], None],
        low_water: Nothing = lambda: None,
    ) -> None:
        self._cap = cap
        self._give_back = give_back
        self._low_water = low_water
        self._turns = {False: Turns(), True: Turns()}
        self._later: dict[Any, deque[Work]] = {}
        self._suspects: deque[Work] = deque()
        self._lapsed: list[Work] = []
        self._running_per_model: Counter[Any] = Counter()
        self._running: set[Work] = set()
        self._alone: Attempt | None = None
        self._changed = threading.Condition(threading.RLock())
        self.closed = False

    def waiting(self, is_async: bool = False) -> int:
        """How much of one kind is in line."""
        return self._turns[is_async].waiting

    @property
    def running(self) -> int:
        """How many checks have a thread."""
        return len(self._running)

    def put(self, works: Iterable[Work], is_async: bool = False, level: int | None = None) -> None:
        """Offer rows; once only ``level`` of that kind wait, ``low_water`` is called.

        None leaves the level as it was. Rows that come after the end are given back.
        """
        offered = list(works)
        with self._changed:
            closed = self.closed
            for work in () if closed else offered:
                self._enqueue(work)
        for work in offered if closed else ():
            self._give_back(work)
        if level is not None:
            self._turns[is_async].level = level

    def take(self, timeout: float, is_async: bool = False) -> Work | None:
        """The next row to run; None after ``timeout`` seconds without one, or once closed."""
        turns = self._turns[is_async]
        while not self.closed:
            try:
                work = turns.next(timeout)
            except queue.Empty:
                return None
            if work is not None and self._may_start(work):
                self._running.add(work)
                if turns.runs_low():
                    self._low_water()
                return work
        return None

    def done(self, work: Work) -> None:
        """Its thread is free again, or was given up for lost."""
        self._running.discard(work)
        if self._cap is not None:
            self._next_of_model(work.model)
        if self._alone is not None:
            self._end_of_suspect(work)

    def recover(self) -> None:
        """Offer again what was set aside because its lease had run out, if it was renewed since."""
        with self._changed:
            aside, self._lapsed = self._lapsed, []
        for work in aside:
            self._enqueue(work)

    def close(self, threads: int) -> None:
        """Start nothing more; what has not started is given back.

        Wakes ``threads`` that wait for sync checks, and the one that waits for async ones.
        """
        with self._changed:
            self.closed = True
            rest: list[Work] = [*self._suspects, *self._lapsed]
            for later in self._later.values():
                rest += later
            self._changed.notify_all()
        for turns in self._turns.values():
            rest += turns.drain()
        for work in rest:
            self._give_back(work)
        self._turns[False].wake(threads)
        self._turns[True].wake(1)

    def _enqueue(self, work: Work) -> None:
        self._turns[work.is_async].put(work)

    def _may_start(self, work: Work) -> bool:
        """Whether it may start now; otherwise it was dropped or put where it waits."""
        if work.superseded or work.lease_until <= time.monotonic():
            self._put_aside(work)
            return False
        if work.suspect:
            if not self._may_run_alone(work):  # type: ignore[arg-type]
                return False
        elif self._alone is not None:
            self._wait_for_suspect()
            return self._unless_closed(work) and self._may_start(work)
        return self._cap is None or self._below_cap(work)

    def _put_aside(self, work: Work) -> None:
        """Drop a row that is not ours any more; keep one whose lease ran out for its renewal."""
        with self._changed:
            if isinstance(work, Batch):
                self._part(work)
            elif not work.superseded:
                self._keep(self._lapsed, work)
            self._offer_next_of(work.model)
            self._offer_next_suspect()  # this may have been the one whose turn it was

    def _part(self, batch: Batch) -> None:
        """One row that moved on, or cannot be renewed, holds up no others of its batch."""
        now = time.monotonic()
        ours = [each for each in batch.attempts if not each.superseded]
        for work in together([each for each in ours if each.lease_until <= now]):
            self._keep(self._lapsed, work)
        for work in together([each for each in ours if each.lease_until > now]):
            if self.closed:
                self._give_back(work)
            else:
                self._enqueue(work)

    def _keep(self, those: list[Work] | deque[Work], work: Work) -> None:
        """Let it wait with ``those``, or give it back if the queue was closed meanwhile."""
        if self.closed:
            self._give_back(work)
        else:
            those.append(work)

    def _may_run_alone(self, suspect: Attempt) -> bool:
        """Become the one that runs alone, or wait for a later turn."""
        with self._changed:
            if self._alone is not None:
                self._keep(self._suspects, suspect)
                return False
            self._alone = suspect
            if suspect.row.state_failures > 1:
                # Nothing may be lost with it; but a check of an hour must not hold up everybody.
                self._changed.wait_for(lambda: self.closed or not self._running, LONGEST_HOLD)
        if self.closed or suspect.superseded or suspect.lease_until <= time.monotonic():
            self._end_of_suspect(suspect)
            return self._unless_closed(suspect) and self._may_start(suspect)
        return True

    def _wait_for_suspect(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self.closed or self._alone is None)

    def _unless_closed(self, work: Work) -> bool:
        if self.closed:
            self._give_back(work)
        return not self.closed

    def _end_of_suspect(self, work: Work) -> None:
        with self._changed:
            if self._alone is work:
                self._alone = None
                self._offer_next_suspect()
            self._changed.notify_all()

    def _offer_next_suspect(self) -> None:
        if self._alone is None and self._suspects:
            self._enqueue(self._suspects.popleft())

    def _below_cap(self, work: Work) -> bool:
        """Take one of the model's threads, or wait until one of its checks has ended.

        A suspect that has its turn does not wait again.
        """
        with self._changed:
            full = self._running_per_model[work.model] >= (self._cap or 0)
            if full and not work.suspect:
                self._keep(self._later.setdefault(work.model, deque()), work)
                return False
            self._running_per_model[work.model] += 1
            return True

    def _next_of_model(self, model: Any) -> None:
        """A row of the model has ended: offer the next one that waits for its thread."""
        with self._changed:
            self._running_per_model[model] -= 1
            self._offer_next_of(model)

    def _offer_next_of(self, model: Any) -> None:
        if self._later.get(model) and self._running_per_model[model] < (self._cap or 0):
            self._enqueue(self._later[model].popleft())
