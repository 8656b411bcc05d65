"""Which rows of a limited state the next claim may take: keys in turn, permits, tokens.

What is asked of the database first bounds the claim: at most ``LOOK`` keys a look, and of each at
most as many rows as there are permits and tokens. So a million due rows of one key cost the others
nothing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django_fsmworker.graph import State
from django_fsmworker.graph.durations import earliest
from django_fsmworker.logs import logger_for
from django_fsmworker.models.indexes import limit_attribute
from django_fsmworker.models.limits import WHOLE_LANE, key_digest
from django_fsmworker.runner.claiming.lanes import DOUBT, LaneBook
from django_fsmworker.runner.in_flight.attempts import Attempt
from django_fsmworker.runner.limiting.pauses import PauseBook
from django_fsmworker.runner.limiting.users import MARGIN, UserBook, Users
from django_fsmworker.store import Lane, Store, buckets

logger = logger_for(__name__)

LOOK = 100
MOST_MARKS = 10_000
# Seconds until somebody else's permits, or another's turn, are asked for again.
PERMIT_WAIT, CONTENDED_WAIT = 0.5, 0.02
# Tokens are not fetched one by one.
TOKEN_WAIT = 0.1
# Seconds for which the keys of a lane stay known that all have more due rows than a claim takes.
KEYS_KNOWN = 0.1


@dataclass(slots=True)
class Turn:
    """Where a lane is in its keys.

    ``after`` is the key that was served last. While there are no more keys than one look finds,
    ``idle`` counts those of which nothing was found since something was, out of a ``circle``. More
    of them (``wide``) are walked through one look after the other, ``fruitful`` if something was
    found since the first one. ``again`` is when keys may have more that had it at a limit, in
    seconds. ``keys`` are those that the last look has found, and whether each was due; it counts
    until ``known_until``. ``empty`` are ranks that had nothing left, ``books`` have the low-water
    marks of keys.
    """

    after: Any = None
    wide: bool = False
    fruitful: bool = False
    idle: int = 0
    circle: int = 0
    again: float | None = None
    keys: list[tuple[Any, bool]] = field(default_factory=list)
    known_until: float = 0.0
    empty: set[Any] = field(default_factory=set)
    books: dict[Any, LaneBook] = field(default_factory=dict)

    def book(self, state: str, column: str, key: Any) -> LaneBook:
        """What is known of one key, a value of ``column``."""
        book = self.books.get(key)
        if book is None:
            if len(self.books) >= MOST_MARKS:
                self.books.clear()
            book = self.books[key] = LaneBook(state, key=(column, key))
        return book


@dataclass(slots=True)
class Plan:
    """What a claim asks for of one state: rows by key, as far as permits and tokens go.

    ``again`` is the seconds after which keys that may have had more are asked again, None if there
    are none. ``more``: there are due keys at which this claim does not look. ``ends``: of all keys,
    these are the last. ``remembered``: keys were not looked for, but are those of the look before.
    ``trial``: one row is tried after a breaker's pause.
    """

    state: State
    asked: dict[Any, int]
    lanes: list[Lane] = field(default_factory=list)
    blocked: set[Any] = field(default_factory=set)
    again: float | None = None
    more: bool = False
    ends: bool = False
    remembered: bool = False
    tokens: dict[Any, int] = field(default_factory=dict)
    trial: bool = False

    def wait(self, seconds: float) -> None:
        """Ask again after so many seconds, or sooner."""
        self.again = seconds if self.again is None else min(self.again, seconds)


class Admission:
    """Plans the claims of limited states; one object a process, for the main loop."""

    def __init__(self, users: UserBook, pauses: PauseBook, lease: float) -> None:
        self.users = users
        self._pauses = pauses
        self._lease = lease
        self._turns: dict[tuple[Any, str], Turn] = {}

    def plan(
        self,
        store: Store,
        model: Any,
        state: State,
        lane: Lane,
        most_of_key: int,
        full_scan_every: float,
    ) -> Plan:
        """Ask for as many rows of a state as ``lane`` does, which looks at it without limits.

        No key has more than ``most_of_key`` rows in flight here where keys take turns.
        """
        limits = state.limits
        plan = Plan(state, {WHOLE_LANE: lane.limit})
        if limits.key is not None:
            self._take_turns(store, model, plan, lane.limit)
        if limits.fair_by is not None:
            self._leave_room(model, plan, most_of_key)
        if limits.limit is not None:
            self._take_permits(store, model, plan, limits.limit)
        if limits.rate is not None:
            self._take_tokens(store, model, plan)
        if limits.key is None:
            plan.lanes = [Lane(lane.state, n, lane.since) for n in plan.asked.values() if n > 0]
        else:
            column, turn = _column(model, state), self._turn(model, state)
            for key, number in plan.asked.items():
                if number > 0:
                    book = turn.book(state.name, column, key)
                    plan.lanes.append(book.lane(number, full_scan_every))
        return plan

    def took(
        self,
        store: Store,
        model: Any,
        plan: Plan,
        attempts: Sequence[Attempt],
        database_now: datetime | None,
    ) -> tuple[bool, float]:
        """Note what a claim found, and give back what it did not need.

        Returns whether the lane may have more due rows, and the seconds until that may be so.
        """
        state = plan.state
        lane, limits, turn = (model, state.name), state.limits, self._turn(model, state)
        column = None if limits.key is None else _column(model, state)
        found = _by_key(store, column, attempts, plan.asked)
        for key, some in found.items():
            if some:
                self.users.add(lane, key, some)
        asked = {key: number for key, number in plan.asked.items() if number > 0}
        if limits.rate is not None and plan.tokens:
            unused = {key: number - len(found.get(key, ())) for key, number in plan.tokens.items()}
            buckets.give_back(store, model, state.name, limits.rate, unused)
        finished = {key for key, number in asked.items() if len(found[key]) < number}
        if plan.blocked <= finished:  # what they had left was less than what they were granted
            plan.again = None
        if limits.limit is not None and finished:
            self.users.release_idle(store, lane, finished)
        if column is not None:
            for key, number in asked.items():
                book = turn.book(state.name, column, key)
                book.took([each.row for each in found[key]], number, database_now)
                if book.doubtful:
                    plan.wait(DOUBT)
        look_anew = plan.remembered and (bool(finished) or not attempts)
        if finished or not attempts:
            turn.known_until = 0.0
        turn.idle = 0 if attempts else turn.idle + len(plan.asked)
        turn.fruitful = turn.fruitful or bool(attempts)
        turn.again = earliest(turn.again, plan.again)
        if limits.is_ranked:
            turn.empty = turn.empty | finished if finished else set()
        if look_anew or asked.keys() - finished - plan.blocked or self._goes_on(plan, turn):
            return True, 0.0
        again, turn.again, turn.idle, turn.empty = turn.again, None, 0, set()
        return (False, 0.0) if again is None else (True, again)

    @staticmethod
    def _goes_on(plan: Plan, turn: Turn) -> bool:
        """Whether there are other keys to look at, after one round without a find no more."""
        if turn.wide:
            return turn.fruitful if plan.ends else True
        return plan.more and turn.idle < turn.circle

    # Keys.

    def _take_turns(self, store: Store, model: Any, plan: Plan, most: int) -> None:
        """The keys whose turn it is, with their shares of ``most`` rows."""
        state, turn = plan.state, self._turn(model, plan.state)
        paused = self._pauses.keys(model, state.name)
        plan.remembered = time.monotonic() < turn.known_until
        due, last = self._due(store, model, state, turn, plan.remembered)
        if paused:
            due = [key for key in due if key_digest(key) not in paused]
        if state.limits.is_ranked:
            ranked = sorted(due, key=lambda key: (key is not None, key or 0), reverse=True)
            ranked = [key for key in ranked if key not in turn.empty]
            plan.asked, plan.more = dict.fromkeys(ranked[:1], most), len(ranked) > 1
            turn.circle = LOOK
            return
        plan.asked = _shares(due, most, state)
        plan.more = len(plan.asked) < len(due)
        turn.circle = len(due)
        if plan.asked and (plan.more or not turn.wide):
            turn.after = list(plan.asked)[-1]
        elif turn.wide:
            turn.after, plan.ends = last, last is None

    def _due(
        self, store: Store, model: Any, state: State, turn: Turn, remembered: bool
    ) -> tuple[list[Any], Any]:
        """The next due keys in the order of their turns, and after which key to look next.

        None: from the first one on. ``remembered``: those that the last look has found.
        """
        start = turn.after if turn.wide else None
        if not remembered:
            now = time.monotonic()
            turn.keys = store.due_keys(model, state.name, _column(model, state), start, LOOK)
            turn.wide = len(turn.keys) >= LOOK or start is not None
            # Whoever has its turn is not to wait for that.
            stay = not (turn.wide or state.limits.fair_by is not None or state.limits.is_ranked)
            turn.known_until = now + KEYS_KNOWN if stay else 0.0
        found = turn.keys
        keys = [key for key, _ in found]
        due = [key for key, is_due in found if is_due]
        if start is None:
            turn.fruitful = False
        if turn.wide:
            return due, keys[-1] if len(found) >= LOOK else None
        if turn.after in keys:  # the one after the last that was served has its turn
            at = keys.index(turn.after) + 1
            known = set(due)
            due = [key for key in keys[at:] + keys[:at] if key in known]
        return due, None

    def _leave_room(self, model: Any, plan: Plan, most: int) -> None:
        """No key holds all that this process may hold: others' rows find room at once."""
        users = self.users.of((model, plan.state.name))
        for key, number in plan.asked.items():
            held = len(users[key].attempts) if key in users else 0
            if number > most - held:
                plan.asked[key] = max(0, most - held)
                plan.blocked.add(key)
                plan.wait(PERMIT_WAIT)

    # Permits and tokens.

    def _take_permits(self, store: Store, model: Any, plan: Plan, limit: int) -> None:
        lane = (model, plan.state.name)
        users = self.users.glance(lane)
        if any(key not in users or users[key].idle < n for key, n in plan.asked.items()):
            users = self.users.of(lane)
        if lacking := _lacking(plan.asked, users, limit):
            taken = store.permits.take(
                model,
                plan.state.name,
                limit,
                lacking,
                self.users.token,
                self._lease * (1 + MARGIN),
            )
            for key, some in taken.permits.items():
                if some:
                    self.users.grant(lane, key, some)
            if taken.contended:
                plan.wait(_jittered(CONTENDED_WAIT))
            users = self.users.of(lane)
        for key, number in plan.asked.items():
            granted = min(number, max(0, users[key].idle) if key in users else 0)
            if granted < number:
                plan.blocked.add(key)
                plan.wait(_jittered(PERMIT_WAIT))
            plan.asked[key] = granted

    def _take_tokens(self, store: Store, model: Any, plan: Plan) -> None:
        rate: Any = plan.state.limits.rate
        wanted = {key: number for key, number in plan.asked.items() if number > 0}
        if not wanted:
            return
        tokens = buckets.take(store, model, plan.state.name, rate, wanted)
        plan.tokens = tokens.granted
        for key, number in wanted.items():
            granted = tokens.granted[key]
            if granted < number:
                plan.blocked.add(key)
                least = min(TOKEN_WAIT, rate.depth * rate.interval / 2)
                plan.wait(max(tokens.wait.get(key, 0.0), _jittered(least)))
            plan.asked[key] = granted

    def _turn(self, model: Any, state: State) -> Turn:
        return self._turns.setdefault((model, state.name), Turn())


def _column(model: Any, state: State) -> str:
    """The attribute of the column that has the keys of this state's rows."""
    return limit_attribute(model, state.limits.key or "")


def _by_key(
    store: Store, column: str | None, attempts: Iterable[Attempt], asked: Iterable[Any]
) -> dict[Any, list[Attempt]]:
    """The attempts by key; those that were asked for are all there, be it without any."""
    found: dict[Any, list[Attempt]] = {key: [] for key in asked}
    for attempt in attempts:
        key = WHOLE_LANE if column is None else attempt.row.__dict__[column]
        if column is not None and key not in found:
            key = _asked_for(store, attempt, column, found)
        found.setdefault(key, []).append(attempt)
    return found


def _asked_for(store: Store, attempt: Attempt, column: str, asked: Iterable[Any]) -> Any:
    """The key for which the claim found the row: the database takes the row's own for equal to it.

    Most collations of MariaDB and MySQL do so with texts that differ in case only.
    """
    for key in asked:
        if store.has_value(attempt.model, attempt.pk, column, key):
            return key
    return attempt.row.__dict__[column]


def _lacking(asked: Mapping[Any, int], users: Mapping[Any, Users], limit: int) -> dict[Any, int]:
    """How many permits to ask for, of each key that has not enough."""
    lacking = {}
    for key, number in asked.items():
        known = users.get(key)
        if known is not None:
            number = min(number - known.idle, limit - len(known.permits))
        if number > 0:
            lacking[key] = min(number, limit)
    return lacking


def _shares(due: Sequence[Any], most: int, state: State) -> dict[Any, int]:
    """Rows for each key that has its turn: equal numbers, or by weight, at least one."""
    keys = due[:most]
    if not keys:
        return {}
    weights = _weights(keys, state)
    total = sum(weights.values())
    shares = {key: max(1, int(most * weights[key] / total)) for key in keys}
    left = most - sum(shares.values())
    for key in keys:
        if left <= 0:
            break
        shares[key] += 1
        left -= 1
    return shares


def _weights(keys: Sequence[Any], state: State) -> Mapping[Any, float]:
    weight = state.limits.weight
    if weight is None:
        return dict.fromkeys(keys, 1.0)
    found = {}
    for key in keys:
        try:
            found[key] = float(weight(key))
            if not found[key] > 0:
                raise ValueError(f"{found[key]} is not above zero")
        except Exception:
            logger.exception(
                "The weight of %r failed for the key %s; 1 counts instead.",
                state,
                key,
                extra={"action": "weight_failed", "state": state.name},
            )
            found[key] = 1.0
    return found


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.75, 1.25)
