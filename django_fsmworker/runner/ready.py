"""Claimed rows that wait for a thread, and the order in which they get one."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from django_fsmworker.runner.attempt import Attempt


class ReadyQueue:
    """Models take turns; no model runs on more threads than its cap; suspects run by themselves.

    A suspect (its lease had lapsed, so the process that ran it may have died of it) starts alone:
    until it ends nothing else starts. One that has lapsed twice waits until nothing else runs.
    Between two suspects the other rows get a turn.
    """

    def __init__(
        self, cap: int | None, turn: int, low_water: Callable[[], None] = lambda: None
    ) -> None:
        self._cap = cap
        self._turn = turn
        self._low_water = low_water
        self._waiting: dict[Any, deque[Attempt]] = {}
        self._suspects: deque[Attempt] = deque()
        self._lapsed: list[Attempt] = []
        self._running: Counter[Any] = Counter()
        self._alone: Attempt | None = None
        self._since_suspect = turn
        self._level = 0
        self._closed = False
        self._changed = threading.Condition()
        self.waiting = 0
        self.running = 0

    def put(self, attempts: Iterable[Attempt], level: int = 0) -> None:
        """Offer claimed rows; when no more than ``level`` wait, ``low_water`` is called."""
        with self._changed:
            for attempt in attempts:
                if attempt.suspect:
                    self._suspects.append(attempt)
                else:
                    self._waiting.setdefault(attempt.model, deque()).append(attempt)
                self.waiting += 1
            self._level = level
            self._changed.notify_all()

    def take(self, timeout: float) -> Attempt | None:
        """The next row to run; None after ``timeout`` seconds without one, or once closed."""
        end = None
        with self._changed:
            while not self._closed:
                attempt = self._next()
                if attempt is not None:
                    self._start(attempt)
                    return attempt
                end = end or time.monotonic() + timeout
                if not self._changed.wait(end - time.monotonic()) and end <= time.monotonic():
                    return None
        return None

    def done(self, attempt: Attempt) -> None:
        """The row's thread is free again, or was given up for lost."""
        with self._changed:
            self.running -= 1
            self._running[attempt.model] -= 1
            if self._alone is attempt:
                self._alone = None
                self._since_suspect = 0
                self._changed.notify_all()
            elif self._cap or self._suspects:
                self._changed.notify_all()

    def discard(self, attempt: Attempt) -> bool:
        """Take out a row that was lost before it started; whether it was still here."""
        with self._changed:
            for queue in (*self._waiting.values(), self._suspects, self._lapsed):
                if attempt in queue:
                    queue.remove(attempt)
                    self.waiting -= 1
                    return True
        return False

    def recover(self) -> None:
        """Put back what was set aside because its lease had run out, if it was renewed since."""
        with self._changed:
            aside, self._lapsed = self._lapsed, []
            self.waiting -= len(aside)
        now = time.monotonic()
        kept = [attempt for attempt in aside if attempt.lease_until <= now]
        with self._changed:
            self._lapsed += kept
            self.waiting += len(kept)
        self.put((attempt for attempt in aside if attempt.lease_until > now), self._level)

    def close(self) -> list[Attempt]:
        """Give nothing more out; returns what has not started."""
        with self._changed:
            self._closed = True
            rest = [*self._suspects, *self._lapsed]
            for queue in self._waiting.values():
                rest += queue
                queue.clear()
            self._suspects.clear()
            self._lapsed.clear()
            self.waiting = 0
            self._changed.notify_all()
            return rest

    @property
    def closed(self) -> bool:
        return self._closed

    def _next(self) -> Attempt | None:
        """The next row that may start now. A lease that has run out starts nothing."""
        while self._alone is None:
            attempt = self._next_suspect() or self._next_in_turn() or self._next_suspect(idle=True)
            if attempt is None or attempt.lease_until > time.monotonic():
                return attempt
            self._lapsed.append(attempt)
        return None

    def _next_suspect(self, idle: bool = False) -> Attempt | None:
        if not self._suspects or (self._since_suspect < self._turn and not idle):
            return None
        if self.running and self._suspects[0].row.state_failures > 1:
            return None
        return self._suspects.popleft()

    def _next_in_turn(self) -> Attempt | None:
        """From the first model that may run, which then goes to the end of the line."""
        if self._held_for_suspect():
            return None
        for model, queue in self._waiting.items():
            if queue and (self._cap is None or self._running[model] < self._cap):
                if len(self._waiting) > 1:
                    self._waiting[model] = self._waiting.pop(model)
                return queue.popleft()
        return None

    def _held_for_suspect(self) -> bool:
        """A suspect that must run with nothing beside it has its turn: let the others end first."""
        return bool(self._suspects) and self._since_suspect >= self._turn and self.running > 0

    def _start(self, attempt: Attempt) -> None:
        self.waiting -= 1
        self.running += 1
        self._running[attempt.model] += 1
        self._since_suspect += 1
        if attempt.suspect:
            self._alone = attempt
        if self.waiting == self._level:
            self._low_water()
