"""The queues a row passes in this process: ready to be run, and over.

``ReadyQueue`` holds what waits for an executor, in one ``RoundRobin`` for each sort of check. The
``ResultQueue`` is what the settler reads. ``ResultRouter`` brings each result to one of the two.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any, Protocol

from django_fsmworker.runner.in_flight.attempts import (
    Again,
    Attempt,
    Batch,
    Result,
    Work,
    attempts_of,
    halves,
    together,
)
from django_fsmworker.runner.in_flight.shares import Group, Most, ShareLines, Shares
from django_fsmworker.store import Outcome

LONGEST_HOLD = 5.0
FEW = 3

Item = tuple[Attempt, Outcome | None]
"""An attempt that is over and its outcome; None hands the row back, and nothing is counted."""

OnResult = Callable[[Work, Result], None]
"""Called with work that is over and its result."""


class WorkQueue(Protocol):
    """Where claimed rows are put: the ready queue, or a guard evaluator that stands before it."""

    def waiting(self, is_async: bool = False) -> int:
        """The number of calls, of sync or of async checks, that are ready and not yet started."""

    def put(self, works: Iterable[Work], is_async: bool = False, level: int | None = None) -> None:
        """Offer rows; once only ``level`` of that sort wait, the main loop is woken."""

    def give_back_beyond_share(self, of_state: Most, of_key: Most) -> list[Work]:
        """Give back calls that wait for their share, where more are held than may be; which."""


class ResultQueue(queue.SimpleQueue[Item | None]):
    """The settler's inbox, filled by whoever ended an attempt; None tells the settler to end."""

    def hand_back(self, work: Work) -> None:
        """Free the rows of ``work``, which has not started."""
        for attempt in attempts_of(work):
            self.put((attempt, None))


class ResultRouter:
    """Rows go to the settler with their outcomes, the halves of a batch back to the ready queue.

    Halves wait for their turn like everything else there: a batch with many failures does not keep
    one thread to itself, and what has not begun is handed back when the runner stops.
    """

    def __init__(
        self, settle: Callable[[Item], None], offer: Callable[[Sequence[Work]], None]
    ) -> None:
        self._settle = settle
        self._offer = offer

    def route(self, work: Work, result: Result) -> None:
        """Pass on the result of ``work``; None hands its rows back."""
        if isinstance(work, Batch):
            self._route_batch(work, result)
        else:
            self._settle((work, result))  # type: ignore[arg-type]

    def _route_batch(self, batch: Batch, result: Result) -> None:
        if result is Again.IN_HALVES:
            for attempt in batch.attempts:
                if attempt.superseded:
                    self._settle((attempt, None))
            self._offer(halves(batch))
            return
        outcomes: Any = repeat(None) if result is None else result
        for attempt, outcome in zip(batch.attempts, outcomes, strict=False):
            attempt.started, attempt.ended = batch.started, batch.ended
            attempt.finished = batch.finished
            self._settle((attempt, outcome))


class RoundRobin:
    """The lines in which claimed rows of one sort of check wait: one a model, served in turn.

    Any number of threads may put and take; the usual row passes without a lock. A batch of rows
    stands in line as one, and has one turn.
    """

    def __init__(self) -> None:
        self._lines: dict[Any, queue.SimpleQueue[Work]] = {}
        self._turns: list[queue.SimpleQueue[Work]] = []
        self._turn = 0
        # A thread waits for a ticket, of which there is one for each row; False tells it to end.
        self._tickets: queue.SimpleQueue[bool] = queue.SimpleQueue()
        # What runs again in halves: it was in line before, and takes the room of nobody new.
        self._again: set[Work] = set()
        self._new_line = threading.Lock()
        self.level = -1

    @property
    def waiting(self) -> int:
        """The number of calls in line for the first time."""
        return self._tickets.qsize() - len(self._again)

    def put(self, work: Work) -> None:
        """Append to the model's line, then issue a ticket: a ticket holder always finds a row."""
        line = self._lines.get(work.model)
        if line is None:
            with self._new_line:
                line = self._lines.setdefault(work.model, queue.SimpleQueue())
                self._turns = list(self._lines.values())
        if work.stale:
            self._again.add(work)
        line.put(work)
        self._tickets.put(True)

    def next(self, timeout: float) -> Work | None:
        """The row whose turn it is; raises ``queue.Empty`` after ``timeout`` s, None if woken."""
        return self._of_next_line() if self._tickets.get(timeout=timeout) else None

    def runs_low(self) -> bool:
        """Whether no more than ``level`` calls wait by now; true once for each level set."""
        if self._tickets.qsize() - len(self._again) > self.level:
            return False
        self.level = -1
        return True

    def drain(self) -> list[Work]:
        """Take everything that waits."""
        rest = []
        while self._take_ticket():
            rest.append(self._of_next_line())
        return rest

    def wake(self, threads: int) -> None:
        """Let this number of threads return from ``next``."""
        for _ in range(threads):
            self._tickets.put(False)

    def _of_next_line(self) -> Work:
        """The first row of the next line that has one; called by holders of a ticket only."""
        while True:
            turns = self._turns
            turn = self._turn = (self._turn + 1) % len(turns)  # a thread beside may write it, too
            try:
                work = turns[turn].get_nowait()
            except queue.Empty:
                continue
            if work.stale:
                self._again.discard(work)
            return work

    def _take_ticket(self) -> bool:
        try:
            return self._tickets.get_nowait()
        except queue.Empty:
            return False


class ReadyQueue:
    """Claimed rows that wait for an executor, and the rules by which their checks start.

    Models take turns, each first come, first served; no model runs more checks at once than its
    cap, and suspects run by themselves. Caps and suspects count sync and async checks together; the
    lines are apart, so that a crowd of async checks holds up no sync one, and the reverse.

    A suspect (its lease had lapsed, so the process that ran it may have died of it) runs as any
    other, unless a process is known to have died while it ran this one. Then it runs ``FEW`` at a
    time with others like it, and after another death alone: it waits, for a few seconds, until
    nothing else runs, and until it ends nothing else starts. Suspects that cannot start yet go to
    the end of their line, so the others get a turn.

    A batch of rows, which are one call of their check, passes here as one row does, the usual row
    without taking a lock: ten threads that share one lock wait for each other and for Python's own,
    which was measured at a sixth of the throughput.
    """

    def __init__(
        self,
        cap: int | None,
        give_back: Callable[[Work], None],
        low_water: Callable[[], None] = lambda: None,
    ) -> None:
        self._cap = cap
        self._give_back = give_back
        self._low_water = low_water
        self._lines = {False: RoundRobin(), True: RoundRobin()}
        self._later: dict[Any, deque[Work]] = {}
        self._suspects: deque[Work] = deque()
        self._lapsed: list[Work] = []
        self._running_per_model: Counter[Any] = Counter()
        self._running: set[Work] = set()
        self._alone: Attempt | None = None
        self._few: set[Work] = set()
        self._beyond_few: deque[Work] = deque()
        self._changed = threading.Condition(threading.RLock())
        self.closed = False
        self.stops: Callable[[Work], bool] = lambda work: False
        """Whether a call is handed back instead of being started: its rows are paused."""
        self._shares: Shares | None = None
        self._shared: frozenset[int] = frozenset()
        self._beyond_share = ShareLines()

    def share(self, shares: Shares) -> None:
        """Let calls wait that would take more than their share of the slots."""
        self._shares, self._shared = shares, shares.states

    def waiting(self, is_async: bool = False) -> int:
        """The number of calls, of sync or of async checks, that are in line."""
        return self._lines[is_async].waiting

    @property
    def running(self) -> int:
        """The number of checks that have been taken by an executor and have not ended."""
        return len(self._running)

    def put(self, works: Iterable[Work], is_async: bool = False, level: int | None = None) -> None:
        """Offer rows; once only ``level`` calls of that sort wait, ``low_water`` is called.

        None leaves the level as it was. Rows that are offered to a closed queue are given back.
        """
        offered = list(works)
        with self._changed:
            closed = self.closed
            for work in () if closed else offered:
                self._enqueue(work)
        for work in offered if closed else ():
            self._give_back(work)
        if level is not None:
            self._lines[is_async].level = level

    def take(self, timeout: float, is_async: bool = False) -> Work | None:
        """The next row to run; None after ``timeout`` seconds without one, or once closed."""
        line = self._lines[is_async]
        while not self.closed:
            try:
                work = line.next(timeout)
            except queue.Empty:
                return None
            if work is not None and self._beyond_share:
                work = self._longest_waiting(work)
            if work is not None and self._may_start(work):
                self._running.add(work)
                if self._shared and id(work.state) in self._shared and self._is_beyond_share(work):
                    self._wait_for_share(work)
                    continue
                # Looked at once more: whoever revokes a claim does so before looking at what runs.
                if work.moved_on:
                    self.done(work)
                    self._put_aside(work)
                    continue
                if line.runs_low():
                    self._low_water()
                return work
        return None

    def busy_with(self) -> list[Work]:
        """A copy of what has been taken by an executor and has not ended."""
        return list(self._running.copy())

    def done(self, work: Work) -> None:
        """The call has ended, or its thread or slot was given up: another may start instead."""
        self._running.discard(work)
        if self._shares is not None and self._shared and id(work.state) in self._shared:
            self._shares.ended(work)
        if self._beyond_share:
            self._offer_next_beyond_share()
        if self._cap is not None:
            self._next_of_model(work.model)
        if self._alone is not None:
            self._end_of_suspect(work)
        if self._few:
            self._leave_few(work)

    def recover(self) -> None:
        """Offer rows again that were set aside when their leases had run out."""
        with self._changed:
            aside, self._lapsed = self._lapsed, []
        for work in aside:
            self._enqueue(work)

    def close(self, threads: int) -> None:
        """Start nothing more, give back what waits, and wake ``threads`` threads and the loop."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
        self.give_back_waiting()
        self._lines[False].wake(threads)
        self._lines[True].wake(1)

    def give_back_waiting(self) -> None:
        """Give back what has not started: it waits here for nothing, while others might run it."""
        with self._changed:
            aside = [self._suspects, self._beyond_few, self._lapsed]
            aside += self._later.values()
            rest: list[Work] = [work for those in aside for work in those]
            rest += self._beyond_share.drain()
            for those in aside:
                those.clear()
        for line in self._lines.values():
            rest += line.drain()
        for work in rest:
            self._give_back(work)

    def give_back_beyond_share(self, of_state: Most, of_key: Most) -> list[Work]:
        """Give back calls that wait for their share, where more are held than may be; which."""
        if not self._beyond_share:
            return []
        with self._changed:
            running = Counter(self._group(work) for work in self._running.copy())
            given = self._beyond_share.take_beyond(running, of_state, of_key)
        for work in given:
            self._give_back(work)
        return given

    def _is_beyond_share(self, work: Work) -> bool:
        assert self._shares is not None
        return not (work.alone or self._shares.allow(work, self._running))

    def _wait_for_share(self, work: Work) -> None:
        """Let the call wait until another has ended: those like it have their share of slots."""
        self._running.discard(work)
        if self._cap is not None:
            self._next_of_model(work.model)
        if self._few:
            self._leave_few(work)
        with self._changed:
            if self._shares is not None and self._shares.allow(work, {*self._running.copy(), work}):
                # What stood in its way has ended meanwhile, or was refused at the same moment.
                self._enqueue(work)
            elif self.closed:
                self._give_back(work)
            else:
                self._beyond_share.put_first(self._group(work), work)

    def _longest_waiting(self, work: Work) -> Work:
        """The call whose turn it is among those that wait for the same share; first come first."""
        with self._changed:
            return work if work.alone else self._beyond_share.exchange(self._group(work), work)

    def _group(self, work: Work) -> Group:
        """What it waits with: a call of another key, which may have its share, is not behind it."""
        return id(work.state), None if self._shares is None else self._shares.key_of(work)

    def _offer_next_beyond_share(self) -> None:
        """Something has ended: of each state and key, what waits for its share has another try.

        The last of them asks, and the first has the turn.
        """
        with self._changed:
            for work in self._beyond_share.take_last_of_each():
                self._enqueue(work)

    def _enqueue(self, work: Work) -> None:
        self._lines[work.is_async].put(work)

    def _may_start(self, work: Work) -> bool:
        """Whether it may start now; otherwise it was dropped or put where it waits."""
        if work.superseded or work.lease_until <= time.monotonic():
            self._put_aside(work)
            return False
        if self.stops(work):
            self._give_back(work)
            self._offer_others(work)
            return False
        if work.suspect and work.alone:
            if not self._may_run_alone(work):  # type: ignore[arg-type]
                return False
        elif self._alone is not None:
            self._wait_for_suspect()
            return self._unless_closed(work) and self._may_start(work)
        elif work.suspect and work.among_few and not self._is_of_few(work):
            return False
        return self._cap is None or self._below_cap(work)

    def _is_of_few(self, work: Work) -> bool:
        """Become one of the few that run at once, or wait for one of them to end."""
        with self._changed:
            if len(self._few) >= FEW:
                self._keep(self._beyond_few, work)
                return False
            self._few.add(work)
            return True

    def _leave_few(self, work: Work) -> None:
        with self._changed:
            self._few.discard(work)
            self._offer_next_of_few()

    def _offer_next_of_few(self) -> None:
        if self._beyond_few and len(self._few) < FEW:
            self._enqueue(self._beyond_few.popleft())

    def _put_aside(self, work: Work) -> None:
        """Drop a row that is not ours any more; keep one whose lease ran out for its renewal."""
        with self._changed:
            if isinstance(work, Batch):
                self._part(work)
            elif not work.superseded:
                self._keep(self._lapsed, work)
            self._offer_others(work)

    def _offer_others(self, work: Work) -> None:
        """Offer what waits: ``work``, which is not started, may have been what had its turn."""
        with self._changed:
            self._offer_next_of(work.model)
            self._offer_next_suspect()
            self._offer_next_of_few()
            self._offer_next_beyond_share()

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
            if full and not work.alone:
                self._leave_few(work)
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
