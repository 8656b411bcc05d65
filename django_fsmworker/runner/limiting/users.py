"""The attempts that use up a limit here, by state and key, and the permits that are held for them.

An attempt uses its permit until its check has really ended: also one that is superseded, was
interrupted or has been given up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django_fsmworker.runner.in_flight.attempts import Attempt, InFlight, Work, attempts_of
from django_fsmworker.store import Store, permits

Lane = tuple[Any, str]

# The part of a lease by which a permit outlives a row that is leased at the same moment.
MARGIN = 1 / 6
# Seconds for which a permit that nobody uses is kept for the next row of a busy lane, and between
# two looks at those.
KEPT_IDLE, LOOK_EVERY = 0.5, 0.1
# Of a key's attempts, so many that have not ended are looked at first.
FEW = 3


@dataclass(slots=True)
class Users:
    """The attempts at rows of one key, and the permits of that key."""

    attempts: list[Attempt] = field(default_factory=list)
    permits: list[int] = field(default_factory=list)
    idle_since: float = 0.0

    @property
    def idle(self) -> int:
        """How many permits are not in use."""
        return len(self.permits) - len(self.attempts)


class UserBook:
    """All users of limits in this process. The main loop adds them, the renewer renews."""

    def __init__(
        self, stores: Mapping[Any, Store], in_flight: InFlight, running: Callable[[], list[Work]]
    ) -> None:
        self._stores = stores
        self._in_flight = in_flight
        self._running = running
        self._lanes: dict[Lane, dict[Any, Users]] = {}
        self._lock = threading.RLock()
        self._looked: dict[Lane, float] = {}
        self.token = permits.holder()
        self.surplus: set[Attempt] = set()
        """Attempts whose permits were lost, since this process could not renew them in time."""

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def of(self, lane: Lane) -> dict[Any, Users]:
        """The users by key, those that have ended left out."""
        with self._lock:
            keys = self._lanes.get(lane, {})
            self._prune(keys)
            return keys

    def glance(self, lane: Lane) -> dict[Any, Users]:
        """The users by key, with some of those that have ended, which were claimed late.

        Other than ``of()``, it does not look at all rows that are held for each claim of a few.
        """
        with self._lock:
            keys = self._lanes.get(lane, {})
            if self.surplus:
                self._prune(keys)
            else:
                for users in keys.values():
                    self._drop_first(users)
            return keys

    def count(self, lane: Lane) -> int:
        """The number of attempts at rows of this lane that have not ended."""
        return sum(len(each.attempts) for each in self.of(lane).values())

    def last_count(self, lane: Lane) -> int:
        """The number of attempts when ``of()`` was last called, and of those added since."""
        return sum(len(each.attempts) for each in self._lanes.get(lane, {}).values())

    def add(self, lane: Lane, key: Any, attempts: Iterable[Attempt]) -> None:
        """Note attempts at rows that were just claimed."""
        with self._lock:
            self._users(lane, key).attempts.extend(attempts)

    def grant(self, lane: Lane, key: Any, some: Iterable[int]) -> None:
        """Note permits that were just taken."""
        with self._lock:
            users = self._users(lane, key)
            users.permits.extend(some)
            users.idle_since = time.monotonic()

    def release_idle(self, store: Store, lane: Lane, keys: Iterable[Any] | None = None) -> None:
        """Give back the permits of these keys (None: of all) that nobody uses."""
        given: list[int] = []
        with self._lock:
            held = self.of(lane)
            for key in list(held if keys is None else keys):
                users = held.get(key)
                if users is None or users.idle <= 0:
                    continue
                idle = users.idle
                given += users.permits[-idle:]
                del users.permits[-idle:]
                if not users.permits and not users.attempts:
                    del held[key]
        if given:
            store.permits.give_back(self.token, given)

    def release_unused(self, store: Store, model: Any, is_busy: Callable[[str], bool]) -> None:
        """Give back the idle permits of lanes that have nothing to run, or have not for a while."""
        now = time.monotonic()
        for lane in [lane for lane in self._lanes if lane[0] is model]:
            busy = is_busy(lane[1])
            if busy and now - self._looked.get(lane, 0.0) < LOOK_EVERY:
                continue
            self._looked[lane], held = now, self.of(lane)
            over = [
                key
                for key, users in held.items()
                if users.idle > 0 and not (busy and now - users.idle_since < KEPT_IDLE)
            ]
            if over:
                self.release_idle(store, lane, over)
            if not held:
                with self._lock:
                    self._lanes.pop(lane, None)

    def renew(self, store: Store, lease: float) -> list[Attempt]:
        """Renew the permits of this database; returns the attempts that have lost theirs."""
        with self._lock:
            held = {
                pk
                for (model, _), keys in self._lanes.items()
                if self._stores[model] is store
                for users in keys.values()
                for pk in users.permits
            }
        if not held:
            return []
        missing = held - store.permits.renew(self.token, held, lease * (1 + MARGIN))
        missing -= store.permits.still_held(self.token, missing) if missing else set()
        return self._lose(missing) if missing else []

    def stops_work(self, work: Work) -> bool:
        """Whether a call that has not begun has lost its permit."""
        return bool(self.surplus) and any(each in self.surplus for each in attempts_of(work))

    def close(self, store: Store) -> None:
        """Give back what is not in use; the process is about to end."""
        for lane in [lane for lane in self._lanes if self._stores[lane[0]] is store]:
            self.release_idle(store, lane)

    def _users(self, lane: Lane, key: Any) -> Users:
        return self._lanes.setdefault(lane, {}).setdefault(key, Users())

    def _lose(self, missing: set[int]) -> list[Attempt]:
        lost: list[Attempt] = []
        with self._lock:
            for lane in list(self._lanes):
                for users in self.of(lane).values():
                    gone = missing.intersection(users.permits)
                    users.permits = [pk for pk in users.permits if pk not in gone]
                    beyond = -users.idle
                    if gone and beyond > 0:
                        # Those that have not begun cost nothing.
                        users.attempts.sort(key=lambda each: each.started or float("inf"))
                        lost += users.attempts[-beyond:]
            self.surplus.update(lost)
        return lost

    @staticmethod
    def _drop_first(users: Users) -> None:
        """Drop attempts that have ended, behind few that go on: rows are run in turn."""
        kept: list[Attempt] = []
        seen = 0
        for attempt in users.attempts:
            if not (attempt.finished or attempt.settled):
                if len(kept) == FEW:
                    break
                kept.append(attempt)
            seen += 1
        if len(kept) < seen:
            users.attempts[:seen] = kept
            users.idle_since = time.monotonic()

    def _prune(self, keys: dict[Any, Users]) -> None:
        busy: set[Attempt] | None = None
        for users in keys.values():
            if not users.attempts:
                continue
            left = [each for each in users.attempts if not (each.finished or each.settled)]
            gone = self._in_flight.missing(left)
            if gone:
                if busy is None:
                    busy = {each for work in self._running() for each in attempts_of(work)}
                ended = set(gone) - busy
                left = [each for each in left if each not in ended]
            if len(left) < len(users.attempts):
                users.idle_since = time.monotonic()
                self.surplus.difference_update(set(users.attempts) - set(left))
                users.attempts = left
