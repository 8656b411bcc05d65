"""One row in this process's hands, from its claim to its settling."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django_fsmworker.graph import State
from django_fsmworker.models.keys import key_of
from django_fsmworker.store import Hold, Store
from django_fsmworker.store.claims import taken_over

# Shares of a place are added and taken away again and again: in whole numbers that adds up.
WHOLE = 1_000_000


@dataclass(slots=True, eq=False)
class Attempt:
    """A claimed row and how far it has come. Times are ``time.monotonic()`` seconds.

    There is one for every row: the first fields are given by position, which takes half the time.

    ``began`` and ``steps`` count from the claim on, through all states in which the row went on.

    ``is_async``: its check runs on an event loop, and not on a thread of its own. ``share``: how
    much of a place it takes, in parts of ``WHOLE``. Both are asked for again and again.

    ``lock`` guards ``finished``: whoever wants to interrupt the check proves under it that the
    check still runs, and after ``finished`` nobody may. ``stale``: the check had the row before, in
    a batch that came to nothing, and may have changed it; it is loaded again before the next call.
    """

    store: Store
    row: Any
    pk: Any
    token: int
    state: State
    is_async: bool
    share: int
    age_at_claim: float
    claimed: float
    lease_until: float
    began: float
    steps: int = 0
    started: float | None = None
    finished: bool = False
    overran: bool = False
    cancelled: bool = False
    superseded: bool = False
    settled: bool = False
    noted: bool = False
    stale: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def model(self) -> Any:
        return type(self.row)

    @property
    def hold(self) -> Hold:
        return Hold(self.pk, self.token, self.state.name)

    @property
    def suspect(self) -> bool:
        """Its lease had lapsed: the process that had it may have died of it."""
        return taken_over(self.token)

    def age(self, now: float) -> float:
        """Seconds since the row entered its state, by the database's clock at the claim."""
        return self.age_at_claim + now - self.claimed


def attempts_at(
    store: Store, model: Any, rows: Iterable[Any], sent: float, lease: float
) -> list[Attempt]:
    """Attempts at rows that a claim sent at ``sent`` has leased for ``lease`` seconds."""
    states, attempts = model.state_graph.states, []
    kinds = {name: (state, state.is_async, share_of(state)) for name, state in states.items()}
    until, now = sent + lease, time.monotonic()
    for row in rows:
        values = row.__dict__  # a model's attributes are descriptors, slower to read
        state, is_async, share = kinds[values["state"]]
        age = (values["state_lease"] - values["state_changed"]).total_seconds() - lease
        pk, token = key_of(row), values["state_claim"]
        attempts.append(
            Attempt(store, row, pk, token, state, is_async, share, age, sent, until, now)
        )
    return attempts


def share_of(state: State) -> int:
    """What a row in this state takes of a place: where its check gets a batch, many share one."""
    return WHOLE // (state.batch or 1)
