"""The fence: what a row has to carry for a claim's holder to write to it.

Every write of a holder is fenced: settling an outcome, advancing, renewing, handing back. Each
database renders ``Fence`` in its ``sql`` module; MariaDB and MySQL compare it in ``mysql.fences``.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple, Self, TypeAlias

from django.db import Error, connections
from django.db.models import QuerySet

from django_fsmworker.models.entering import revoked
from django_fsmworker.store.errors import is_outage, tells_of
from django_fsmworker.store.failures import Failure
from django_fsmworker.store.pauses import PauseRequest
from django_fsmworker.traces import current_trace


@dataclass(frozen=True, slots=True)
class Fence:
    """A claimed row: its key, the token that proves the claim, and the state it was claimed in.

    A row that somebody moved with a plain ``update()`` still carries the token, but not the state.
    """

    pk: Any
    token: int | None
    state: str

    @classmethod
    def of(cls, row: Any) -> Self:
        """The fence of a row as a claim has returned it."""
        return cls(row.pk, row.state_claim, row.state)

    def revoked(self) -> Self:
        """What the row carries once somebody has moved it and so revoked the claim."""
        return type(self)(self.pk, None if self.token is None else revoked(self.token), self.state)


@dataclass(frozen=True, slots=True)
class Lane:
    """One state of one model, as a claim looks at it.

    At most ``limit`` rows, from the low-water mark ``since`` on (None: from the start). With a
    ``key``, the attribute of a column and a value, only rows that have that value there. All lanes
    of one claim have a key in the same column, all NULL or none of them; or none has one.
    """

    state: str
    limit: int
    since: datetime | None = None
    key: LaneKey | None = None


LaneKey: TypeAlias = tuple[str, Any]


def lane_key(model: Any) -> LaneKey | None:
    """The key that the lanes of ``model`` have: that of a part of its table, or None for all."""
    return getattr(model, "state_lane_key", None)


class KeyColumn(NamedTuple):
    """The attribute of the column in which lanes have a key, and whether that is NULL."""

    name: str
    is_null: bool = False


def key_column(lanes: Sequence[Lane]) -> KeyColumn | None:
    """The column in which these lanes have a key; None if they have none."""
    if not lanes or lanes[0].key is None:
        return None
    name, value = lanes[0].key
    return KeyColumn(name, value is None)


def lane_value(table: Any, lane: Lane) -> list[Any]:
    """The value of a lane's key as a parameter; nothing where it has no key, or NULL."""
    if lane.key is None or lane.key[1] is None:
        return []
    return list(table.prepared(lane.key[0], [lane.key[1]]))


def lane_terms(table: Any, key: KeyColumn | None, value: str) -> str:
    """The conditions that lanes with a key add, where their key has the SQL term ``value``.

    The states that have an index by this column are written out: it is a partial one.
    """
    if key is None:
        return ""
    column = table.qualified[key.name]
    return f"{table.keyed_by(key.name)} AND {column} " + (
        "IS NULL" if key.is_null else f"= {value}"
    )


def new_token() -> int:
    """A random even number; the claim writes the odd one above it where a lease had lapsed.

    It is not negative: numbers below zero are tokens of claims that were revoked.
    """
    return secrets.randbits(61) << 1


def taken_over(token: int | None) -> bool:
    """Whether a claim's token says that the row's lease had lapsed: it is a suspect."""
    return token is not None and token % 2 == 1


def fresh(table: Any) -> str:
    """The condition, in SQL, that a row which is claimed now is no suspect.

    Nobody held it, or what has lapsed is a claim that was revoked.
    """
    return f"{table.lease} IS NULL OR {table.claim} < 0"


class Ending(StrEnum):
    """How an attempt ended that writes its row; each value is what counters and logs call it.

    Rows that were interrupted are handed back, and those that were superseded are dropped.
    """

    MOVED = "moved"  # by its check, or by a guard
    STAYED = "stayed"
    FAILED = "failed"
    OVERRAN = "overran"  # its check did not end within its deadline: a failure, too
    TIMED_OUT = "timed_out"  # moved by the state's timeout_to, or because its life was over


@dataclass(slots=True)
class Outcome:
    """One finishing write, fenced by the row's key, the state it started from and the token.

    ``target`` equals ``source`` where the row stays. ``delay`` is the seconds until the next try,
    ``timeout`` the target's timeout counted from the moment the row entered it; the earlier one, or
    the end of the row's life, decides ``state_next``, and with none of them it becomes NULL.
    ``failures`` is the new count, which starts again in a failure state; ``attempt`` tells how many
    failures in a row led there.
    ``written``: the check's own transaction has committed it. ``kept``: the row goes on here.
    ``given_back``: it was not tried, and is due as it was before.
    ``pause``: its check asked for one, which is written along.
    ``trace``: that of the attempt, which a row that it moves keeps; empty where there was none.
    """

    pk: Any
    row: Any
    ending: Ending
    source: str
    token: int | None
    target: str
    delay: float | None
    timeout: float | None
    failures: int = 0
    attempt: int = 0
    failure: Failure | None = None
    cause: str = "check"
    written: bool = False
    kept: bool = False
    given_back: bool = False
    pause: PauseRequest | None = None
    trace: str = ""

    @property
    def moved(self) -> bool:
        """Whether the row enters a state (it may be the same one again, by its timeout)."""
        return self.ending in _ENTERING or self.target != self.source

    @property
    def failed_for_good(self) -> bool:
        """Whether it failed and is not tried again: ``fails_to`` has moved it, or it is parked."""
        parked = self.delay is None and not self.moved
        return self.failure is not None and (parked or self.cause == "failure")


@dataclass(frozen=True, slots=True)
class Settled:
    """The answer of a check that has written what becomes of its row, in a committed transaction.

    Nothing more is written: it is counted, logged and told. The fields are those of ``Outcome``.
    """

    ending: Ending
    target: str
    delay: float | None = None
    failures: int = 0
    attempt: int = 0
    failure: Failure | None = None
    given_back: bool = False


def traces_kept(outcomes: Sequence[Outcome]) -> list[str | None]:
    """For each outcome the trace that its row is to keep; None leaves the one that it has.

    A row that is moved without an attempt gets the trace in which that is written.
    """
    here = current_trace()
    return [(each.trace or here or None) if each.moved else None for each in outcomes]


_ENTERING = (Ending.MOVED, Ending.TIMED_OUT)


# Of each lane, when an answer was lost. A claim takes rows from its start; one that is not found
# there waits for its lease.
MOST_LOOKED_AT = 20_000


class LostReplies:
    """One store's writes whose answer was lost: what they claimed is soon free again.

    Nobody but the lost answer knows their token. So their rows would wait until the leases have run
    out, and then run one by one, as suspects, although nothing has happened to them. The threads
    that claim and settle share this object.
    """

    def __init__(self, alias: str, hand_back: Callable[[Any, Sequence[Fence]], Any]) -> None:
        self._alias = alias
        self._hand_back = hand_back
        self._waiting: deque[Callable[[], Any]] = deque()

    def claim(self, model: Any, lanes: Sequence[Lane], token: int) -> AbstractContextManager[None]:
        """Around the statement that claims with this token, or the odd one above it."""
        return self._watched(partial(self._free_claimed, model, lanes, token))

    def advance(
        self, model: Any, outcomes: Sequence[Outcome], token: int
    ) -> AbstractContextManager[None]:
        """Around the statement that moves rows and keeps them under this token."""
        return self._watched(partial(self._free_advanced, model, outcomes, token))

    def free(self) -> None:
        """Free what lost answers told of. Tried once for each: the lease sees to the rest."""
        while self._waiting and not connections[self._alias].in_atomic_block:
            connections[self._alias].ensure_connection()
            self._waiting.popleft()()

    @contextmanager
    def _watched(self, free: Callable[[], Any]) -> Iterator[None]:
        connection = connections[self._alias]
        connection.ensure_connection()  # without one, nothing gets there whose answer could be lost
        try:
            yield
        except Error as error:
            if not connection.in_atomic_block and tells_of(error, is_outage):
                self._waiting.append(free)
            raise

    def _free_claimed(self, model: Any, lanes: Sequence[Lane], token: int) -> None:
        rows: QuerySet[Any] = QuerySet(model, using=self._alias)
        fences = []
        for lane in lanes:
            due = rows.filter(state=lane.state, state_next__isnull=False).order_by("state_next")
            if lane.key is not None:
                due = due.filter(**dict([lane.key]))
            if lane.since is not None:
                due = due.filter(state_next__gte=lane.since)
            found = due.values_list("pk", "state_claim")[:MOST_LOOKED_AT]
            fences += [
                Fence(pk, claim, lane.state) for pk, claim in found if claim in (token, token + 1)
            ]
        if fences:
            self._hand_back(model, fences)

    def _free_advanced(self, model: Any, outcomes: Sequence[Outcome], token: int) -> None:
        self._hand_back(model, [Fence(each.pk, token, each.target) for each in outcomes])
