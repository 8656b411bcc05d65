"""What the next claim asks for: lanes that may have due rows, and how many rows of each."""

from __future__ import annotations

import bisect
import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.graph import State
from django_fsmworker.runner.claiming.row_sizes import RowSizes
from django_fsmworker.runner.in_flight.attempts import InFlight, Work
from django_fsmworker.runner.in_flight.queues import WorkQueue
from django_fsmworker.runner.in_flight.shares import FEWEST_SHARED
from django_fsmworker.store import Lane, Outcome
from django_fsmworker.store.fence import LaneKey, lane_key

SAFETY_LAG = timedelta(seconds=10)
DOUBT = 1.0
MOST_TIMES = 100
GRAIN = 0.05
FINE_GRAIN = 0.005
# Seconds for which a lane at a limit is left alone although it is woken.
AT_LEAST_BLOCKED = 0.05


@dataclass(slots=True)
class LaneBook:
    """What this process knows about one lane: one state of one model.

    Times are ``time.monotonic()`` seconds.

    ``mark`` is the low-water mark: what is due before it has been claimed, as far as this process
    saw. It spares the claim the dead index entries there. It stays a safety lag behind the clock
    for transactions that commit late, and correctness does not rest on it: the lane is scanned
    from its start every ``full_scan_every`` seconds, and, once a second at the most, when a look
    from the mark found nothing: what woke the lane may lie below, or the database's clock was put
    back.

    ``upcoming`` are the due times of rows that were settled here, the earliest hundred of them;
    later ones are found by the next look at the database. Of the rows of others that look sees the
    first, due at ``seen``; once that one is taken, it is ``unknown`` when the next is due.

    ``key`` is that of a lane of a part of the table.

    ``closed`` lanes are those of a single pass: nothing wakes them any more. ``paused`` ones are
    not claimed; nor are those at a limit before ``blocked_until``, unless one of the rows has ended
    of which ``held`` were in flight then.
    """

    state: str
    active: bool = True
    upcoming: list[float] = field(default_factory=list)
    mark: datetime | None = None
    asked: float = float("-inf")
    scanned: float = float("-inf")
    from_start: bool = True
    doubtful: bool = False
    seen: float = float("inf")
    unknown: bool = False
    woken: bool = False
    closed: bool = False
    key: LaneKey | None = None
    paused: bool = False
    blocked_until: float = 0.0
    held: int = 0

    @property
    def may_run(self) -> bool:
        """Whether there may be due rows that are not paused."""
        return self.active and not self.paused

    def blocked(self, may_have_more: bool, seconds: float, held: int) -> None:
        """Note what a claim of a limited lane came to: see ``Admission.took()``.

        ``held`` rows of it are in flight now.
        """
        self.active, self.held = self.woken or may_have_more, held
        self.blocked_until = time.monotonic() + seconds if seconds else 0.0
        if self.woken and self.blocked_until:
            self.blocked_until = min(self.blocked_until, time.monotonic() + AT_LEAST_BLOCKED)

    def lane(self, limit: int, full_scan_every: float) -> Lane:
        """The lane as the next claim should look at it."""
        self.asked = now = time.monotonic()
        self.woken = False
        patience = min(DOUBT, full_scan_every) if self.doubtful else full_scan_every
        self.from_start = self.mark is None or now - self.scanned >= patience
        return Lane(self.state, limit, None if self.from_start else self.mark, self.key)

    def took(self, rows: list[Any], limit: int, database_now: datetime | None) -> None:
        """Note the ``rows`` that a claim of at most ``limit`` found.

        With fewer rows than asked for, the lane sleeps until it is woken, unless that happened
        while the claim was under way: the row may have come after the claim had looked.
        """
        if self.from_start:
            self.scanned = self.asked
        self.doubtful = not (rows or self.from_start)
        if rows and self.seen <= self.asked:
            self.seen, self.unknown = float("inf"), True
        self.active = self.woken or len(rows) == limit
        if database_now is not None:
            self.mark = database_now - SAFETY_LAG
            if len(rows) == limit:
                self.mark = min(self.mark, rows[-1].state_next)
        if self.closed and not (self.active or self.from_start):
            self.scanned, self.active = float("-inf"), True  # no later look: this one comes now
        elif self.doubtful:
            self.wake(self.scanned + DOUBT - time.monotonic())

    def wake(self, due_in: float) -> None:
        """Note that a row of this state is due in ``due_in`` seconds."""
        if self.closed:
            return
        if due_in <= 0:
            self.active = self.woken = True
            if self.blocked_until:  # another key may have become due
                self.blocked_until = min(self.blocked_until, self.asked + AT_LEAST_BLOCKED)
            return
        # Rounded up, so that a thousand rows with one retry_after are one time; less if it is near.
        grain = GRAIN if due_in > 1 else FINE_GRAIN
        moment = (int((time.monotonic() + due_in) / grain) + 1) * grain
        at = bisect.bisect_left(self.upcoming, moment)
        if at == len(self.upcoming) or self.upcoming[at] != moment:
            self.upcoming.insert(at, moment)
            del self.upcoming[MOST_TIMES:]

    def reopen(self) -> None:
        """Look once more in a single pass, too: rows that were claimed in it are free again."""
        if self.closed:
            self.scanned, self.active = float("-inf"), True

    def tick(self, now: float) -> None:
        """Wake up if a row is due by now."""
        passed = bisect.bisect_right(self.upcoming, now)
        if passed:
            del self.upcoming[:passed]
            self.active = self.woken = True

    @property
    def next_due(self) -> float:
        """The moment at which the lane wakes up by itself."""
        return self.upcoming[0] if self.upcoming else float("inf")


class Lanes:
    """The lanes of every model; any thread may wake one.

    ``until_now`` closes them for a single pass: what becomes due from then on is left alone.
    """

    def __init__(self, models: Iterable[Any]) -> None:
        self._lock = threading.Lock()
        self._books = {
            model: {name: LaneBook(name, key=lane_key(model)) for name in model.state_graph.states}
            for model in models
        }

    def until_now(self) -> None:
        """Let nothing wake a lane any more."""
        for book in self._each():
            book.closed = True
            book.upcoming.clear()

    def wake(self, model: Any, state: str, due_in: float) -> None:
        """Note that a row is due in ``due_in`` seconds: no need to ask the database."""
        with self._lock:
            self._books[model][state].wake(due_in)

    def wake_all(self, model: Any) -> None:
        """Wake each lane of ``model``, since somebody made rows of it due."""
        for state in self._books[model]:
            self.wake(model, state, 0)

    def expect(self, model: Any, outcomes: Iterable[Outcome]) -> None:
        """Note when the rows of these outcomes, now written, will be due again."""
        soonest: dict[str, float] = {}
        for outcome in outcomes:
            if outcome.kept:  # its row goes on here
                continue
            if outcome.given_back:
                self._books[model][outcome.target].reopen()
            if outcome.delay is None and outcome.timeout is None:
                continue
            for delay in (outcome.delay, outcome.timeout):
                if delay is not None:
                    soonest[outcome.target] = min(delay, soonest.get(outcome.target, delay))
        for state, delay in soonest.items():
            self.wake(model, state, delay)

    def tick(self, now: float) -> None:
        """Wake the lanes in which a row is due by ``now``."""
        with self._lock:
            for book in self._each():
                book.tick(now)

    def active(self, model: Any, is_async: bool) -> list[LaneBook]:
        """The lanes of ``model``, of sync or of async checks, that may have due rows."""
        states, now = model.state_graph.states, time.monotonic()
        return [
            book
            for book in self._books[model].values()
            if book.may_run
            and book.blocked_until <= now
            and states[book.state].is_async is is_async
        ]

    def books(self, model: Any) -> Iterable[LaneBook]:
        """All lanes of ``model``."""
        return self._books[model].values()

    def book(self, model: Any, state: str) -> LaneBook:
        """The lane of ``model`` in this state."""
        return self._books[model][state]

    def pause(self, stops: Callable[[Any, str], bool]) -> None:
        """Note which lanes are paused; those that are so no more are woken."""
        with self._lock:
            for model, lanes in self._books.items():
                for book in lanes.values():
                    paused = stops(model, book.state)
                    if book.paused and not paused:
                        book.wake(0)
                    book.paused = paused

    def asleep(self, models: Iterable[Any]) -> dict[Any, list[Lane]]:
        """By model, the lanes that are thought to have no due row, as ``Store.peek`` takes them."""
        asleep = {
            model: [
                Lane(book.state, 1, key=book.key)
                for book in self._books[model].values()
                if not book.active
            ]
            for model in models
        }
        return {model: lanes for model, lanes in asleep.items() if lanes}

    @property
    def exhausted(self) -> bool:
        """Whether no lane is thought to have due rows."""
        return not any(book.may_run for book in self._each())

    def next_due(self) -> float:
        """The moment at which the first of the lanes that sleep, or are at a limit, wakes up."""
        with self._lock:
            now = time.monotonic()
            blocked = [
                book.blocked_until
                for book in self._each()
                if book.may_run and book.blocked_until > now
            ]
            return min([book.next_due for book in self._each()] + blocked)

    def peeked(self, found: Mapping[tuple[Any, str], float]) -> None:
        """Note the seconds after which the first rows of sleeping lanes are due."""
        with self._lock:
            for (model, state), due in found.items():
                book = self._books[model][state]
                book.doubtful = due <= 0  # nobody woke it for that row: it may lie below the mark
                book.seen, book.unknown = time.monotonic() + max(due, 0.0), False
                book.wake(due)

    def took(
        self, asked: Sequence[tuple[LaneBook, int]], rows: Sequence[Any], lease: float
    ) -> tuple[bool, bool, bool]:
        """Note what a claim found in each of the books that it ``asked`` for so many rows at most.

        Returns whether any of them sleeps now, whether any of those had rows, and whether of any it
        is unknown when its next row is due.
        """
        found: dict[str, list[Any]] = {book.state: [] for book, _ in asked}
        for row in rows:
            found[row.__dict__["state"]].append(row)
        database_now = rows[0].state_lease - timedelta(seconds=lease) if rows else None
        with self._lock:
            for book, limit in asked:
                book.took(found[book.state], limit, database_now)
            asleep = [book for book, _ in asked if not book.active]
            # A lane that looks again in a moment finds what there is without being asked about.
            soon = time.monotonic() + GRAIN
            unknown = [book for book in asleep if book.unknown and book.next_due > soon]
            for book in unknown:
                book.unknown = False  # it is asked about now
        return bool(asleep), any(found[book.state] for book in asleep), bool(unknown)

    def give_up(self, model: Any) -> None:
        """Let the lanes of ``model`` sleep."""
        for book in self._books[model].values():
            book.active = False

    def _each(self) -> Iterable[LaneBook]:
        return (book for lanes in self._books.values() for book in lanes.values())


def _checked(model: Any) -> list[State]:
    return [state for state in model.state_graph.states.values() if state.checked]


class Capacity:
    """The slots that are left for claims; one call of a check, for a row or a batch, takes one.

    Sync and async checks have slots of their own: neither waits while the other has none. What
    bounds the memory of the rows that are held is common to both. Where ``models`` have several
    states with checks, none of them takes all slots.
    """

    def __init__(
        self,
        settings: RunnerSettings,
        in_flight: InFlight,
        queue: WorkQueue,
        prefetch: Mapping[bool, Prefetch],
        models: Iterable[Any] = (),
    ) -> None:
        self._settings = settings
        self._in_flight = in_flight
        self._queue = queue
        self._prefetch = prefetch
        self.row_sizes = RowSizes(settings.max_in_flight_megabytes)
        checked = [state for model in models for state in _checked(model)]
        self._are_shared = {
            is_async: prefetch[is_async].target >= 2 * FEWEST_SHARED
            and sum(state.is_async is is_async for state in checked) > 1
            for is_async in (False, True)
        }

    def slots(self, is_async: bool) -> int:
        """The number of slots that are left; none while as many rows, or as many bytes, as allowed
        are held, however few calls they make.
        """
        free = self._target_left(is_async)
        return min(free, self._rows_left(is_async)) if self._bytes_left() > 0 else 0

    def _target_left(self, is_async: bool) -> int:
        return self._prefetch[is_async].target - self._in_flight.slots(is_async)

    def slots_for(self, model: Any, is_async: bool, sharing: int) -> int:
        """The number of slots that ``model`` may fill while ``sharing`` models share what is left.

        None until enough has been started for a claim to be worthwhile.
        """
        if self._queue.waiting(is_async) > self.low_water(is_async):
            return 0
        sharing = max(1, sharing)
        share = min(-(-self.slots(is_async) // sharing), self._rows_by_size(model, sharing))
        return min(share, self._left_of(model), self._settings.claim_batch)

    def may_hold_more(self, model: Any, is_async: bool) -> bool:
        """Whether a slot is left that a row of ``model`` may take, however many rows wait here."""
        return self.slots(is_async) > 0 and self._left_of(model) > 0

    def rows(
        self, model: Any, states: Sequence[State], is_async: bool, slots: int, sharing: int = 1
    ) -> list[int]:
        """The number of rows of each state that fill ``slots`` slots, shared equally."""
        share = slots // len(states)
        most = min(
            self._settings.claim_batch,
            self._rows_left(is_async),
            self._rows_by_size(model, sharing),
        ) // len(states)
        found = []
        for state in states:
            size = state.batch or 1
            own = min(share, self._room(model, state, is_async))
            found.append(max(own, min(own * size, most)))
        return found

    def has_room(self, model: Any, state: State) -> bool:
        """Whether this process may hold more rows of the state."""
        return self._room(model, state, state.is_async) > 0

    def _room(self, model: Any, state: State, is_async: bool) -> int:
        """The slots that the state may still take."""
        most = self._most_of_state(state, is_async)
        if not self._are_shared[is_async]:
            return most
        return most - self._in_flight.slots_in(model, state.name)

    def _most_of_state(self, state: State, is_async: bool) -> int:
        """The slots that a state may take in all: not every one, where there are others.

        Their rows would not be claimed while those of this state hang.
        """
        target = self._prefetch[is_async].target
        if not self._are_shared[is_async]:
            return target
        most = target - max(1, target // 10)
        if state.limits.share is not None:
            most = min(most, max(1, 2 * math.ceil(target * state.limits.share / 2)))
        return most

    def most_of_key(self, is_async: bool, state: State) -> int:
        """The number of rows of one key that may be held where keys take turns."""
        return self._most_calls_of_key(is_async) * (state.batch or 1)

    def _most_calls_of_key(self, is_async: bool) -> int:
        target = self._prefetch[is_async].target
        return target - max(1, target // 4)

    def give_back_overhang(self) -> list[Work]:
        """Give back calls that wait for their share where they leave no slot; which they were.

        The target may have become smaller since they were claimed. As long as those before them
        hang, they would wait in the place of rows of other states and keys.
        """
        if all(self._target_left(is_async) > 0 for is_async in (False, True)):
            return []
        return self._queue.give_back_beyond_share(
            lambda work: self._most_of_state(work.state, work.is_async),
            lambda work: self._most_calls_of_key(work.is_async),
        )

    def low_water(self, is_async: bool) -> int:
        """The number of waiting calls at which it is time to claim more."""
        return self._prefetch[is_async].target // 2

    def _left_of(self, model: Any) -> int:
        """The slots that the cap on each model leaves to this one."""
        cap = self._settings.concurrency_per_model
        return sys.maxsize if cap is None else 2 * cap - self._in_flight.slots_of(model)

    def _rows_by_size(self, model: Any, sharing: int) -> int:
        """The rows of ``model`` that its share of what is left of the memory has room for."""
        return self.row_sizes.rows(model, self._bytes_left() / sharing)

    def _bytes_left(self) -> float:
        return self.row_sizes.limit - self._in_flight.bytes

    def _rows_left(self, is_async: bool) -> int:
        return self._prefetch[is_async].most - self._in_flight.rows(is_async)


# Seconds, unless a whole target's worth was settled sooner: then the target grows at once, but by
# this factor at the most, since such a short time is little to go by.
SHORTEST_MEASURE = 0.05
MOST_GROWTH = 10
HORIZON = 1.0


class Prefetch:
    """The target for slots in use: the calls that run at once, and a prefetch of waiting ones.

    The prefetch is a second of work at the measured rate, and never more than a quarter of a lease:
    rows that wait here could run elsewhere, and all of them become suspects if this process dies.
    ``most`` is the highest target, ``lease`` the length of a lease in seconds.
    """

    def __init__(self, concurrency: int, most: int, lease: float) -> None:
        self._concurrency = concurrency
        self.most = max(most, concurrency)
        self._horizon = min(HORIZON, lease / 4)
        self._seen = 0.0
        self._at = time.monotonic()
        self.target = min(2 * concurrency, self.most)

    def measured(self, settled: float) -> None:
        """Adapt the target; ``settled`` is the number of slots' worth of rows settled so far."""
        now = time.monotonic()
        if settled == self._seen:
            self._at = max(self._at, now - HORIZON)  # an idle time says nothing about the rate
            return
        done, elapsed = settled - self._seen, now - self._at
        if elapsed <= 0 or (elapsed < SHORTEST_MEASURE and done < self.target):
            return
        self._seen, self._at = settled, now
        ahead = max(self._concurrency, int(done / elapsed * self._horizon))
        self.target = min(self._concurrency + ahead, MOST_GROWTH * self.target, self.most)
