"""Attempts, from the claim of a row to its settling, and the set of those in flight here."""

from __future__ import annotations

import ctypes
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Literal, TypeAlias

from django_fsmworker.exceptions import TimeoutError
from django_fsmworker.graph import State
from django_fsmworker.logs import logger_for
from django_fsmworker.models.entering import was_moved
from django_fsmworker.models.keys import key_of
from django_fsmworker.runner.counters import SUPERSEDED, Counters
from django_fsmworker.runner.in_flight.log_fields import row_fields
from django_fsmworker.store import Fence, Outcome, Store
from django_fsmworker.store.fence import taken_over

# Injects an exception into a thread; ``NOTHING`` takes back one that has not arrived yet.
set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
set_async_exc.argtypes = (ctypes.c_ulong, ctypes.py_object)
set_async_exc.restype = ctypes.c_int
NOTHING: Any = ctypes.py_object()

# Shares of a slot are added and taken away again and again: in whole numbers that adds up.
WHOLE = 1_000_000

# The known deaths from which a suspect runs among few of its kind, and from which it runs alone.
AMONG_FEW_FROM, ALONE_FROM = 1, 2


@dataclass(slots=True, eq=False)
class Attempt:
    """A claimed row and how far it has come. Times are ``time.monotonic()`` seconds.

    One is made for every row: the first fields are given by position, which takes half the time.

    ``began`` and ``steps`` count from the claim on, through all states in which the row ran on.

    ``started`` and ``ended`` are those of the call of the check, which a batch shares.

    ``is_async``: the check runs on an event loop, and not on a thread of its own. ``share``: how
    much of a slot the row takes, in parts of ``WHOLE``. ``suspect``: the row's lease had lapsed, so
    the process that held it may have died of the row. All three are asked for again and again.
    ``size``: the bytes that the row is taken to hold.

    ``lock`` guards ``finished``: whoever wants to interrupt the check proves under the lock that
    the check still runs; once it has finished nobody may. ``stale``: a batch that came to nothing
    may have changed this instance, so it is loaded again before the next call. ``revoked``: the row
    was moved, and stays leased until its check has ended. ``deaths``: how many processes are known
    to have ended while they ran this suspect; ``examined``: one more is noted, should this one.
    ``trace``: the ``traceparent`` of the span that its check runs in, if there is one. ``waited``:
    when its check was last seen waiting for a database that keeps everybody waiting.
    """

    store: Store
    row: Any
    pk: Any
    token: int
    suspect: bool
    state: State
    is_async: bool
    share: int
    age_at_claim: float
    claimed: float
    lease_until: float
    began: float
    size: int = 0
    steps: int = 0
    started: float | None = None
    finished: bool = False
    overran: bool = False
    cancelled: bool = False
    superseded: bool = False
    settled: bool = False
    revoked: bool = False
    untaken: int = 0
    deaths: int = 0
    examined: bool = False
    noted: bool = False
    stale: bool = False
    trace: str = ""
    ended: float | None = None
    waited: float = float("-inf")
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def model(self) -> Any:
        return type(self.row)

    @property
    def fence(self) -> Fence:
        return Fence(self.pk, self.token, self.state.name)

    @property
    def among_few(self) -> bool:
        """Whether only few rows like this one may run at once."""
        return self.suspect and AMONG_FEW_FROM <= self.deaths < ALONE_FROM

    @property
    def alone(self) -> bool:
        """Whether nothing may be started beside it."""
        return self.suspect and self.deaths >= ALONE_FROM

    @property
    def moved_on(self) -> bool:
        """Whether the check is not to begin any more."""
        return self.superseded

    @property
    def moved_by_its_check(self) -> bool:
        """Whether the check itself moved the row; it may end in peace."""
        return self.revoked and was_moved(self.row)

    def age(self, now: float) -> float:
        """Seconds since the row entered its state, by the database's clock at the claim."""
        return self.age_at_claim + now - self.claimed


def attempts_at(
    store: Store, model: Any, rows: Iterable[Any], sent: float, lease: float, size: int = 0
) -> list[Attempt]:
    """Attempts at the rows of a claim that was sent at ``sent``, leased for ``lease`` seconds.

    Each row holds ``size`` bytes.
    """
    states, attempts = model.state_graph.states, []
    known = {name: (state, state.is_async, share_of(state)) for name, state in states.items()}
    until, now = sent + lease, time.monotonic()
    for row in rows:
        values = row.__dict__  # a model's attributes are descriptors, slower to read
        state, is_async, share = known[values["state"]]
        age = (values["state_lease"] - values["state_changed"]).total_seconds() - lease
        pk, token = key_of(row), values["state_claim"]
        attempts.append(
            Attempt(
                store,
                row,
                pk,
                token,
                taken_over(token),
                state,
                is_async,
                share,
                age,
                sent,
                until,
                now,
                size,
            )  # fmt: skip
        )
    return attempts


def share_of(state: State) -> int:
    """The part of a slot that a row in this state takes: the rows of a batch share one."""
    return WHOLE // (state.batch or 1)


@dataclass(slots=True, eq=False)
class Batch:
    """Attempts at rows of one state that share one call of their check.

    The start, the flags and the lock are the call's; claim, lease, fence and age stay each row's
    own. A batch does not fail: one without an outcome for each row is run again in halves, until
    one row stands alone. ``stale`` is the same for all rows: see ``Attempt``.
    """

    store: Store
    model: Any
    state: State
    attempts: list[Attempt]
    stale: bool
    started: float | None = None
    finished: bool = False
    overran: bool = False
    cancelled: bool = False
    trace: str = ""
    ended: float | None = None
    waited: float = float("-inf")
    lock: threading.Lock = field(default_factory=threading.Lock)
    among_few: ClassVar[bool] = False  # suspects with known deaths share no call
    alone: ClassVar[bool] = False

    @property
    def pk(self) -> str:
        """The rows' name in messages."""
        first, more = self.attempts[0].pk, len(self.attempts) - 1
        return f"{first} and {more} more" if more else str(first)

    @property
    def is_async(self) -> bool:
        return self.state.is_async

    @property
    def suspect(self) -> bool:
        """Whether the process that held one of the rows may have died of it."""
        return any(each.suspect for each in self.attempts)

    @property
    def superseded(self) -> bool:
        """Whether all rows have moved on; as long as one has not, the call goes on."""
        return all(each.superseded for each in self.attempts)

    @property
    def moved_on(self) -> bool:
        """Whether the call is not to begin with all of these rows any more."""
        return any(each.superseded for each in self.attempts)

    @property
    def lease_until(self) -> float:
        """The moment until which every row is leased; past already if one of them moved on."""
        return min(float("-inf") if each.superseded else each.lease_until for each in self.attempts)


Work: TypeAlias = Attempt | Batch
"""One call of a check: what a thread, or a slot of the event loop, is busy with."""


class Again(Enum):
    """The result of a batch when nobody knows which of its rows is to blame."""

    IN_HALVES = "in halves"


Result: TypeAlias = Outcome | Sequence[Outcome | None] | Literal[Again.IN_HALVES] | None
"""The result of a call: an outcome, one for each row of a batch, or None to hand back."""


def attempts_of(work: Work) -> list[Attempt]:
    """The attempts that share one call."""
    return work.attempts if isinstance(work, Batch) else [work]


def work_fields(work: Work, worker: str) -> dict[str, Any]:
    """The extra fields of a line of the log about a call, beside its action."""
    rows = [each.row for each in attempts_of(work)]
    return row_fields(rows, work.pk, work.state.name, worker, trace=work.trace)


def flag_as(work: Work, flag: str) -> bool:
    """Set ``flag`` on what still runs, for somebody else to end; False if it had ended.

    The flag decides what the check has come to, whatever it still does.
    """
    with work.lock:
        return flag_running(work, flag)


def flag_running(work: Work, flag: str) -> bool:
    """Set ``flag`` on what still runs, under its lock; False if it has ended, or has a flag."""
    if work.finished or work.overran or work.cancelled:
        return False
    setattr(work, flag, True)
    return True


def finish(work: Work) -> bool:
    """Mark the check as ended, on its own thread: from here on nobody interrupts it.

    An injected exception that has not arrived yet may do so anywhere in here, once; hence the loop.
    Returns whether the check had been interrupted.
    """
    while True:
        try:
            with work.lock:
                work.finished = True
                work.ended = time.monotonic()
                if work.overran or work.cancelled:
                    set_async_exc(threading.get_ident(), NOTHING)
            return work.overran or work.cancelled
        except TimeoutError:
            continue


def together(attempts: Sequence[Attempt]) -> list[Work]:
    """One call for all of these rows of one state; no call without rows."""
    if len(attempts) < 2:
        return list(attempts)
    first = attempts[0]
    return [Batch(first.store, first.model, first.state, list(attempts), first.stale)]


def halves(batch: Batch) -> list[Work]:
    """Two calls for the rows of one, those that moved on left out."""
    attempts = [each for each in batch.attempts if not each.superseded]
    middle = len(attempts) // 2
    for each in attempts:
        each.stale = True
    return together(attempts[:middle]) + together(attempts[middle:])


def batched(attempts: Iterable[Attempt], alone: Callable[[Attempt], bool]) -> list[Work]:
    """The calls in which rows that were claimed together are run.

    A row that has failed before, or for which ``alone`` is true, is run alone, so that it spoils no
    other row's call.
    """
    works: list[Work] = []
    by_state: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        if attempt.state.batch is None or _has_a_history(attempt) or alone(attempt):
            works.append(attempt)
        else:
            by_state.setdefault(attempt.state.name, []).append(attempt)
    for together_ in by_state.values():
        size = together_[0].state.batch or 1
        for start in range(0, len(together_), size):
            works += together(together_[start : start + size])
    return works


def _has_a_history(attempt: Attempt) -> bool:
    failures: int = attempt.row.__dict__["state_failures"]  # the lapse of a suspect is one
    return attempt.deaths > 0 or failures > attempt.suspect


logger = logger_for(__name__)


class InFlight:
    """A set of attempts, counted per model; shared by all parts of a runner.

    A slot is what one call of a check takes: a row takes one, or its share of one where its check
    gets a batch. ``on_remove`` is called, by any thread, whenever slots may have become free.
    """

    def __init__(
        self,
        counters: Counters | None = None,
        on_remove: Callable[[], None] = lambda: None,
        worker: str = "",
    ) -> None:
        self._counters = counters or Counters()
        self._worker = worker
        self._on_remove = on_remove
        self._attempts: set[Attempt] = set()
        self._latest: dict[tuple[Any, Any], Attempt] = {}
        self._aside: set[Attempt] = set()
        self._per_model: Counter[Any] = Counter()
        self._per_lane: Counter[tuple[Any, str]] = Counter()
        self._shares, self._rows = [0, 0], [0, 0]  # of sync checks, of async ones
        self._bytes = 0
        self._changed = threading.Condition()

    def __len__(self) -> int:
        """The number of rows that take up slots; those of abandoned checks do not."""
        return len(self._attempts) - len(self._aside)

    @property
    def held(self) -> int:
        """The number of rows that are leased here, those of abandoned checks included."""
        return len(self._attempts)

    def slots(self, is_async: bool) -> int:
        """The number of slots taken by rows with sync, or with async, checks."""
        return _slots(self._shares[is_async])

    def rows(self, is_async: bool) -> int:
        """The number of rows with sync, or with async, checks."""
        return self._rows[is_async]

    @property
    def bytes(self) -> int:
        """The memory that the rows take, by the estimates made when they were claimed."""
        return self._bytes

    def slots_of(self, model: Any) -> int:
        """The number of slots taken by rows of ``model``."""
        return _slots(self._per_model[model])

    def slots_in(self, model: Any, state: str) -> int:
        """The number of slots taken by rows of ``model`` in this state."""
        return _slots(self._per_lane[model, state])

    def holds(self, model: Any, pk: Any) -> bool:
        """Whether the row is in flight."""
        return (model, pk) in self._latest

    def missing(self, attempts: Iterable[Attempt]) -> list[Attempt]:
        """The part of ``attempts`` whose rows are not in flight by them any more."""
        here = self._attempts
        return [attempt for attempt in attempts if attempt not in here]

    def set_aside(self, attempt: Attempt) -> None:
        """Give the slot of an abandoned check to others; its row stays leased."""
        with self._changed:
            if attempt in self._attempts and attempt not in self._aside:
                self._aside.add(attempt)
                self._count([attempt], -1)
        self._on_remove()

    def add(self, attempts: Iterable[Attempt]) -> list[Attempt]:
        """Add rows that were just claimed; returns the attempts that still run here on any of them.

        That a row could be claimed means that whatever runs on it has lost it.
        """
        displaced, added = [], list(attempts)
        with self._changed:
            for attempt in added:
                row = type(attempt.row), attempt.pk
                earlier = self._latest.get(row)
                if earlier is not None and not earlier.finished:
                    displaced.append(earlier)
                self._latest[row] = attempt
            self._attempts.update(added)
            self._count(added, 1)
        return displaced

    def remove(self, attempts: Iterable[Attempt]) -> None:
        """Remove rows that were settled, handed back or lost."""
        with self._changed:
            removed = self._attempts.intersection(attempts)
            self._attempts -= removed
            for attempt in removed:
                row = type(attempt.row), attempt.pk
                if self._latest.get(row) is attempt:
                    del self._latest[row]
            self._count(removed - self._aside, -1)
            self._aside -= removed
            self._changed.notify_all()
        self._on_remove()

    def supersede(self, attempts: Iterable[Attempt], *, revoked: bool = False) -> None:
        """Remove rows that moved on without these attempts, each counted and logged once.

        ``revoked``: whoever moved them has left them leased, and they are removed when released.
        """
        attempts = list(attempts)
        for attempt in attempts:
            with attempt.lock:
                known, attempt.superseded = attempt.superseded, True
                attempt.revoked = attempt.revoked or (revoked and not known)
            if known:
                continue
            self._counters.add(attempt.model, SUPERSEDED)
            logger.info(
                "%s %s moved on while it was in the state %s here; nothing was changed.",
                attempt.model._meta.label,
                attempt.pk,
                attempt.state,
                extra={"action": "superseded", **work_fields(attempt, self._worker)},
            )
        self.remove(each for each in attempts if not each.revoked)

    def all(self) -> list[Attempt]:
        """A copy of the set, for walking over while it changes."""
        with self._changed:
            return list(self._attempts)

    def wait_until_empty(self, timeout: float) -> bool:
        """Whether nothing is in flight any more, after at most ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._attempts, timeout)

    def _count(self, attempts: Iterable[Attempt], sign: int) -> None:
        alike = Counter(
            [
                (type(each.row), each.state.name, each.is_async, each.share, each.size)
                for each in attempts
            ]
        )
        for (model, state, is_async, share, size), number in alike.items():
            self._per_model[model] += sign * number * share
            self._per_lane[model, state] += sign * number * share
            self._shares[is_async] += sign * number * share
            self._rows[is_async] += sign * number
            self._bytes += sign * number * size


def _slots(shares: int) -> int:
    return -(-shares // WHOLE)
