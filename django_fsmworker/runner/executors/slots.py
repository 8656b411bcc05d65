"""How many async checks run at once: as many as are allowed, or as few as the loop keeps up with.

A loop with more to do than it can does it no sooner with more coroutines. Each of them waits longer
for its turn, beside its own deadline, and clients whose own work grows with the number of open
calls get less done than with fewer.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from django_fsmworker.logs import logger_for

logger = logger_for(__name__)

FEWEST = 10
FIRST = 20

# A loop with too much to do has no time to wait for anything, and comes round late (s). A check
# that takes less than SHORTEST (s) waits for nothing either; how many run at once is of no account.
BUSY, ROOM, MUCH_ROOM = 0.02, 0.05, 0.8
LATE = 0.002
SHORTEST = 0.01
LONGEST_LINE = 0.02
PULSES = 3

# A step of the growth, once doubling was too much.
MORE = 1.1

# A step of the search, and how many times the checks that end in a second make one up worth it.
STEP = 1.4
GAIN = 1.05
FEWEST_MEASURED = 100

# Seconds after a step that was too much until the next one, which doubles them.
SHORTEST_REST, LONGEST_REST = 1.0, 10.0


@dataclass(slots=True, frozen=True)
class Pulse:
    """What was seen of the loop since it was last looked at, ``elapsed`` seconds ago.

    It waited ``idle`` seconds for something to do and came round ``late`` seconds after it should.
    The calls of its checks in threads wait ``line`` seconds.
    """

    elapsed: float
    idle: float
    late: float
    line: float = 0.0


@dataclass(slots=True)
class Look:
    """Some pulses, and the checks that ended meanwhile after ``seconds`` in all."""

    pulses: list[Pulse] = field(default_factory=list)
    ended: int = 0
    seconds: float = 0.0

    @property
    def overloaded(self) -> bool:
        """Whether there is more to do than the loop, or the threads for its calls, can do."""
        always_line = min(each.line for each in self.pulses) > LONGEST_LINE
        return always_line or (self.idle < BUSY and not self._in_time)

    @property
    def has_room(self) -> bool:
        """Whether more checks would find time, and no call had to wait for a thread."""
        had_line = max(each.line for each in self.pulses) > LONGEST_LINE
        return not had_line and (self.idle > ROOM or self._in_time)

    @property
    def idle(self) -> float:
        """The share of the time in which the loop had nothing to do."""
        return sum(each.idle for each in self.pulses) / sum(each.elapsed for each in self.pulses)

    @property
    def _in_time(self) -> bool:
        """Whether more checks would not wait for one another."""
        return self._late <= LATE or (self.ended > 0 and self.seconds < SHORTEST * self.ended)

    @property
    def _late(self) -> float:
        """The mean delay without the longest: one check may have blocked the loop."""
        delays = sorted(each.late for each in self.pulses)[:-1]
        return sum(delays) / len(delays)


class Slots:
    """The slots for async checks, at most ``size``; ``limit`` is how many there are now.

    The limit grows while the loop has time and all slots are wanted (``Growth``). While the loop
    has too much to do, the limit goes where most checks end in a second (``Search``). So a wrong
    guess costs little: if fewer slots do not help, they are taken back.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.limit = min(size, FIRST)
        self._taken = 0
        # Whether somebody waits for a slot, and whether anybody did since the last look.
        self._waits = self._waited = False
        self._closed = False
        self._look = Look()
        self._was_overloaded = False
        self._growth = Growth()
        self._search: Search | None = None
        self._changed = threading.Condition(threading.Lock())

    def acquire(self) -> None:
        """Wait for a slot and take it; after ``close`` there are any number."""
        with self._changed:
            while self._taken >= self.limit and not self._closed:
                self._waits = self._waited = True
                self._changed.wait()
            self._waits = False
            self._taken += 1

    def release(self, took: float | None = None) -> None:
        """Give a slot back, after a check that ``took`` so many seconds if nobody ended it."""
        with self._changed:
            self._taken -= 1
            if took is not None:
                self._look.ended += 1
                self._look.seconds += took
                if self._search is not None and self._taken < self.limit:
                    self._limit_to(self._search.ended(self.limit))
            self._changed.notify()

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def see(self, pulse: Pulse) -> None:
        """Adapt the limit to what was seen; called every few milliseconds while checks run."""
        with self._changed:
            self._look.pulses.append(pulse)
            if len(self._look.pulses) == PULSES:
                look, self._look = self._look, Look()
                if look.overloaded:
                    self._hold_back()
                else:
                    self._grow(look)
                self._was_overloaded = look.overloaded

    def _hold_back(self) -> None:
        """Begin a search, the second time in a row that there is too much to do."""
        if self._was_overloaded and self._search is None:
            self._search = Search()
            self._limit_to(self._growth.stop(self.limit))

    def _grow(self, look: Look) -> None:
        """End the search, and raise the limit if more slots are wanted and would be of use."""
        if self._search is not None:
            self._search = None
            self._growth.resume()
        if self._waited and look.has_room:
            self._limit_to(self._growth.next(self.limit, look.idle))
        self._waited = self._waits

    def _limit_to(self, limit: int) -> None:
        limit = min(self.size, max(limit, FEWEST))
        if limit > self.limit:
            self._changed.notify(limit - self.limit)
            if limit == self.size:
                self._growth.complete()
        elif limit < self.limit == self.size:
            logger.info(
                "The event loop has too much to do, or the threads that its checks call in; "
                "%d async checks run at once for now, not %d.",
                limit,
                self.size,
                extra={"action": "busy"},
            )
        self.limit = limit


class Growth:
    """The growth of a limit: two- or fourfold at first, as a TCP connection's window (RFC 5681).

    The first time that this is too much ends the doubling: from then on a step is a tenth. A limit
    that was too much is not tried again for a while, which doubles each time.
    """

    def __init__(self) -> None:
        self._doubles = True
        self._too_much = 0
        self._rest, self._rest_until = SHORTEST_REST, 0.0

    def next(self, limit: int, idle: float) -> int:
        """The limit after ``limit``, for a loop that was idle for that share of its time."""
        if self._doubles:
            return limit * (4 if idle > MUCH_ROOM else 2)
        following = max(limit + 1, int(limit * MORE))
        if time.monotonic() < self._rest_until:
            following = min(following, max(limit, int(self._too_much / MORE)))
        return following

    def stop(self, limit: int) -> int:
        """Note that ``limit`` is too much; returns the one to go on from."""
        self._too_much = limit
        if not self._doubles:
            return limit
        self._doubles = False  # the last time was once too often
        return limit // 2

    def resume(self) -> None:
        """Note that there is no longer too much to do."""
        self._rest_until = time.monotonic() + self._rest
        self._rest = min(2 * self._rest, LONGEST_REST)

    def complete(self) -> None:
        """Note that there are as many as allowed: the next time too much is the first again."""
        self._rest = SHORTEST_REST


class Search:
    """A search for the limit at which most checks end in a second: a step, and back or on.

    A limit is measured once as many checks have ended as run at once, for the second time: the
    first ones began when another limit was in force.
    """

    def __init__(self) -> None:
        self._up = False
        self._before: tuple[int, float] | None = None  # the last step: limit and rate before it
        self._rest, self._rest_until = SHORTEST_REST, 0.0
        self._measure(settled=False)

    def ended(self, limit: int) -> int:
        """A check has ended while there were ``limit`` slots; returns how many there are to be."""
        self._ended += 1
        if self._ended < max(limit, FEWEST_MEASURED):
            return limit
        following = limit
        if self._settled:
            took = max(time.monotonic() - self._since, 1e-6)
            following = self._next(limit, self._ended / took, took)
        self._measure(settled=following == limit)
        return following

    def _next(self, limit: int, rate: float, took: float) -> int:
        """The limit to try after ``limit``, whose rate was measured in ``took`` seconds."""
        if self._before is None:
            rests = time.monotonic() < self._rest_until
            return limit if rests else self._step(limit, rate)
        if rate < self._before[1] * (GAIN if self._up else 1):
            return self._step_back(self._before[0], took)
        self._rest = SHORTEST_REST
        return self._step(limit, rate)

    def _step(self, limit: int, rate: float) -> int:
        self._before = limit, rate
        return int(limit * STEP) if self._up else int(limit / STEP)

    def _step_back(self, limit: int, took: float) -> int:
        """Undo a step that did not help; the next one will be in the other direction, later."""
        self._before, self._up = None, not self._up
        # At most a tenth of the time goes into steps that are taken back.
        self._rest_until = time.monotonic() + max(self._rest, 10 * took)
        self._rest = min(2 * self._rest, LONGEST_REST)
        return limit

    def _measure(self, *, settled: bool) -> None:
        """Measure anew; ``settled`` if the checks that end began under the limit in force."""
        self._settled = settled
        self._ended, self._since = 0, time.monotonic()
