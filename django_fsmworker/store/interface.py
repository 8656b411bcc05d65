"""What a database has to be able to do for a runner. One module each implements it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet

from django_fsmworker.graph import State
from django_fsmworker.store.claims import Hold, Lane
from django_fsmworker.store.outcomes import Outcome
from django_fsmworker.store.sweeps import lock_and_move
from django_fsmworker.store.unanswered import Unanswered


class Store(ABC):
    """All SQL of the protocol, for the database behind one alias.

    Every method uses the calling thread's own connection. Times are the database's; durations are
    seconds. Anything the database refuses is raised as Django's ``DatabaseError``.
    """

    # Whether a wait for the database can be ended from outside, or ends when it pleases.
    interruptible = True

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self._unanswered = Unanswered(alias, self.hand_back)
        # Whether what is left in a session of the calling thread is still there the next time.
        self.session_lasts: Callable[[], bool] = lambda: False

    @property
    def connection(self) -> BaseDatabaseWrapper:
        """The calling thread's connection."""
        return connections[self.alias]

    def transaction(self) -> AbstractContextManager[None]:
        """A transaction that may write from its first statement on."""
        return transaction.atomic(using=self.alias)

    def inside(self) -> AbstractContextManager[None]:
        """Inside somebody's transaction a savepoint, so that an error does not break that."""
        return self.transaction() if self.connection.in_atomic_block else nullcontext()

    @abstractmethod
    def shortcomings(self) -> list[str]:
        """Sentences about this database's own settings that a runner will suffer from."""

    def refusals(self, model: Any) -> list[str]:
        """Sentences that say why rows of ``model`` cannot be run on this database."""
        return []

    def missing_indexes(self, model: Any) -> list[tuple[str, str]]:
        """Sentences on a runner's indexes that a table lacks: that it does, and how to add each."""
        return []

    @abstractmethod
    def now(self) -> datetime:
        """The database's time."""

    @abstractmethod
    def claim(
        self, model: Any, lanes: Sequence[Lane], lease: float, until: datetime | None = None
    ) -> list[Any]:
        """Claim due rows, each lane's oldest first; with ``until`` only what was due by then.

        The rows come back whole, carrying token and lease. A row whose lease had lapsed is taken
        over: that counts as one failure in the same write, and its token is odd.
        """

    @abstractmethod
    def peek(self, lanes: Mapping[Any, Sequence[Lane]]) -> dict[tuple[Any, str], float]:
        """Seconds until the first free row of each lane is due, below zero if it is already.

        Keyed by model and state; lanes without such a row are left out. One statement for all.
        """

    @abstractmethod
    def settle(self, model: Any, outcomes: Sequence[Outcome]) -> set[Any]:
        """Write outcomes back and free their rows; returns the keys of the rows it changed.

        A row that is missing is either locked by somebody or no longer ours: ``still_held`` tells.
        """

    @abstractmethod
    def advance(self, model: Any, outcomes: Sequence[Outcome], lease: float) -> list[Any]:
        """Write transitions as ``settle`` does, and keep the rows for their next checks.

        The rows it changed come back whole, under a new token (a graph may come back to the same
        state), leased for ``lease`` seconds: one write instead of a settling and a claim.
        """

    @abstractmethod
    def renew(self, model: Any, holds: Sequence[Hold], lease: float) -> set[Any]:
        """Make the leases last ``lease`` seconds from now; returns the keys renewed.

        The due time moves along, so that long-running rows leave the head of their lane.
        """

    @abstractmethod
    def hand_back(self, model: Any, holds: Sequence[Hold]) -> set[Any]:
        """Free rows that were not started: due at once, nothing counted, suspects still suspect."""

    @abstractmethod
    def still_held(self, model: Any, holds: Sequence[Hold]) -> set[Any]:
        """The keys of those rows that still carry their token, in the same state."""

    def key_at(self, rows: QuerySet[Any], position: int) -> Any:
        """The key at that position of ``rows`` (0 is the first), by key; None if they are fewer."""
        keys = rows.order_by("pk").values_list("pk", flat=True)
        return next(iter(keys[position : position + 1]), None)

    def sweep(self, rows: QuerySet[Any], target: State) -> set[Any]:
        """Move those of ``rows`` that nobody has locked to ``target``; returns their keys.

        ``rows`` say by a condition, possibly over other tables, which row may move. They are locked
        first, in the order of their keys, and written in the same transaction: a row that somebody
        else has just moved is not moved again.
        """
        with self.transaction():
            return lock_and_move(rows, target)

    def _fetch(self, sql: str, params: list[Any]) -> list[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)
            rows: list[Any] = cursor.fetchall()
            return rows
