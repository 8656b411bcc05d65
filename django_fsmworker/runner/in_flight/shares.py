"""The part of a process's slots that one state, or one key of a state, may take at once.

Three rules, each for sync and async checks apart. A state with ``share=`` never has more. Where
several states are run on five slots or more, one state has all of them but one, and where keys take
turns (``fair_by``) one key three quarters of them, unless its checks come and go: as long as they
are quick nobody has to wait for a slot. So a state, or a key, whose checks hang leaves slots to the
others. Bulk actions, which have a share of their own, take no slot from a runner of one state.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django_fsmworker.graph import State
from django_fsmworker.models.bulk_action import is_bulk_action
from django_fsmworker.models.indexes import limit_attribute
from django_fsmworker.runner.in_flight.attempts import Work, attempts_of

# With fewer slots than this, one that is left free would cost too much.
FEWEST_SHARED = 5
# A check that has run for so many seconds may as well hang.
QUICK = 0.1

Group = tuple[int, Any]
"""Whose share it is: a state's, by its ``id()``, or that of one of its keys."""

Most = Callable[[Work], int]
"""Asked with a call, how many like it this process may hold, those that run included."""


class Shares:
    """Tells whether one more call of a state may start; asked without a lock.

    ``sizes`` are the slots for sync and for async checks.
    """

    def __init__(self, models: Iterable[Any], sizes: Mapping[bool, int]) -> None:
        self._sizes = sizes
        states: list[State] = []
        takers: list[State] = []
        self._columns: dict[int, str] = {}
        for model in models:
            for state in model.state_graph.states.values():
                if state.checked:
                    states.append(state)
                if state.checked and not is_bulk_action(model):
                    takers.append(state)
                if state.limits.fair_by is not None:
                    self._columns[id(state)] = limit_attribute(model, state.limits.fair_by)
        self._several = {
            is_async: sum(state.is_async is is_async for state in takers) > 1
            and sizes[is_async] >= FEWEST_SHARED
            for is_async in (False, True)
        }
        self._strict = {
            id(state): max(1, math.ceil(state.limits.share * sizes[state.is_async]))
            for state in states
            if state.limits.share is not None
        }
        self._quick: dict[Any, float] = {}
        least = [self._size_but_one(is_async) for is_async in (False, True)]
        least += self._strict.values()
        if self._columns:
            least += [self._of_key(is_async) for is_async in (False, True)]
        # With no more calls than this, none has more than its share.
        self._least = min(least)
        self.states = frozenset(
            id(state)
            for state in states
            if self._several[state.is_async] or id(state) in {*self._strict, *self._columns}
        )
        """The states, by their ``id()``, whose calls have a share; of others nobody asks."""

    def allow(self, work: Work, running: set[Work]) -> bool:
        """Whether ``work`` may start beside what runs; it is among ``running`` itself."""
        if len(running) <= self._least:
            return True
        state = work.state
        strict, column = self._strict.get(id(state)), self._columns.get(id(state))
        several = strict is None and self._several[work.is_async]
        now = time.monotonic()
        alike = [each for each in running.copy() if each.state is state and each is not work]
        if strict is not None and len(alike) >= strict:
            return False
        if (
            several
            and len(alike) >= self._size_but_one(work.is_async)
            and self._hang(alike, id(state), now)
        ):
            return False
        if column is None:
            return True
        key = _key(work, column)
        same = [each for each in alike if _key(each, column) == key]
        most = self._of_key(work.is_async)
        return len(same) < most or not self._hang(same, (id(state), key), now)

    def key_of(self, work: Work) -> Any:
        """The key with which it takes turns; None where the keys of its state do not."""
        column = self._columns.get(id(work.state))
        return None if column is None else _key(work, column)

    def ended(self, work: Work) -> None:
        """Note that a call has ended."""
        now = time.monotonic()
        if work.started is None or now - work.started > QUICK:
            return
        state = id(work.state)
        self._quick[state] = now
        column = self._columns.get(state)
        if column is not None:
            if len(self._quick) > 10_000:
                self._quick.clear()
            self._quick[state, _key(work, column)] = now

    def _hang(self, alike: Iterable[Work], group: Any, now: float) -> bool:
        """Whether these may hang: all have run for a while, or none has ended quickly of late."""
        if now - self._quick.get(group, float("-inf")) > QUICK:
            return True
        return all(each.started is not None and now - each.started > QUICK for each in alike)

    def _size_but_one(self, is_async: bool) -> int:
        return max(1, self._sizes[is_async] - 1)

    def _of_key(self, is_async: bool) -> int:
        size = self._sizes[is_async]
        return max(1, size - max(1, size // 4))


class ShareLines(dict[Group, "deque[Work]"]):
    """Calls that wait until others have ended: a line for each state, or each key of one.

    Whoever calls holds the lock of the queue that they belong to; it is a dictionary, since for
    each row it is asked whether anything waits.
    """

    def put_first(self, group: Group, work: Work) -> None:
        """Let ``work``, whose turn it was, wait before the others of its line."""
        self.setdefault(group, deque()).appendleft(work)

    def exchange(self, group: Group, work: Work) -> Work:
        """The first of the line, which ``work`` joins instead; ``work`` itself if there is none."""
        line = self.get(group)
        if not line:
            return work
        line.append(work)
        return line.popleft()

    def take_last_of_each(self) -> list[Work]:
        """The last call of each line, which waits no longer."""
        return [work for group in list(self) for work in self._take_last(group, 1)]

    def take_beyond(self, running: Counter[Group], of_state: Most, of_key: Most) -> list[Work]:
        """The last calls of what is more than a state, and a key of one, may hold."""
        taken: list[Work] = []
        held: defaultdict[int, int] = defaultdict(int)
        for group, line in list(self.items()):
            beyond = len(line) + running[group] - of_key(line[0]) if group[1] is not None else 0
            held[group[0]] += len(line) + running[group] - max(0, min(beyond, len(line)))
            taken += self._take_last(group, beyond)
        for group, line in sorted(self.items(), key=lambda each: -len(each[1])):
            beyond = held[group[0]] - of_state(line[0])
            some = self._take_last(group, beyond)
            held[group[0]] -= len(some)
            taken += some
        return taken

    def drain(self) -> list[Work]:
        """All calls of all lines, which wait no longer."""
        waiting = [work for line in self.values() for work in line]
        self.clear()
        return waiting

    def _take_last(self, group: Group, number: int) -> list[Work]:
        line = self[group]
        taken = [line.pop() for _ in range(min(number, len(line)))]
        if not line:
            del self[group]
        return taken


def _key(work: Work, column: str) -> Any:
    """The key of the call's first row."""
    return attempts_of(work)[0].row.__dict__.get(column)
