"""One row in this process's hands, from its claim to its settling."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django_fsmworker.graph import State
from django_fsmworker.store import Hold, Store
from django_fsmworker.store.interface import taken_over


@dataclass(slots=True, eq=False)
class Attempt:
    """A claimed row and how far it has come. Times are ``time.monotonic()`` seconds.

    ``began`` and ``steps`` count from the claim on, through all states in which the row went on.

    ``lock`` guards ``finished``: whoever wants to interrupt the check proves under it that the
    check still runs, and after ``finished`` nobody may.
    """

    store: Store
    row: Any
    pk: Any
    token: int
    state: State
    age_at_claim: float
    claimed: float
    lease_until: float
    began: float = field(default_factory=time.monotonic)
    steps: int = 0
    started: float | None = None
    finished: bool = False
    overran: bool = False
    cancelled: bool = False
    superseded: bool = False
    settled: bool = False
    noted: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def model(self) -> Any:
        return type(self.row)

    @property
    def is_async(self) -> bool:
        """Whether its check runs on an event loop, and not on a thread of its own."""
        return self.state.is_async

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
    for row in rows:
        values = row.__dict__  # a model's attributes are descriptors, slower to read
        age = (values["state_lease"] - values["state_changed"]).total_seconds() - lease
        attempts.append(
            Attempt(
                store=store,
                row=row,
                pk=row.pk,
                token=values["state_claim"],
                state=states[values["state"]],
                age_at_claim=age,
                claimed=sent,
                lease_until=sent + lease,
            )
        )
    return attempts
