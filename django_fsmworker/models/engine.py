"""The engine: what the layers above do for the models, and how each database is spoken to.

The verbs that claim, check and expire need the store and the code that runs a check, both of which
import the models. They are reached through this protocol; the application installs the
implementation when it is ready.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol

from django.db.models import QuerySet

from django_fsmworker.graph import State
from django_fsmworker.models.explanation import Explanation

Term = tuple[str, list[Any]]  # SQL with its parameters

LoggedRow = tuple[str, int, str, datetime | None]
"""A row as the transition log has it: name, digest, the state it was in, and since when."""


class Dialect(ABC):
    """How one kind of database spells the ORM's terms and locks rows; the store has them all."""

    # The number of rows, each named by its key, that one statement is to lock. None: any number, by
    # any condition.
    most_locked: int | None = None

    # Whether an UPDATE can return the rows that it wrote.
    returns_updated: bool = True

    @abstractmethod
    def now(self, connection: Any) -> Term:
        """The database's own time, as a claim sees it."""

    @abstractmethod
    def later(self, connection: Any, seconds: float) -> Term:
        """The database's time so many ``seconds`` from now."""

    @abstractmethod
    def logged(self, connection: Any, rows: Sequence[LoggedRow]) -> Term:
        """A FROM clause with ``row_text``, ``digest`` and ``source`` of ``rows``, and ``duration``.

        The last is the time since that moment, as a ``DurationField`` stores it.
        """

    @abstractmethod
    def appended(self, connection: Any, history: str, state: str) -> Term:
        """The history in the column ``history`` with an entry: ``state``, an SQL term, and now."""

    def counting(self, update: str, column: str) -> str | None:
        """A statement with the same effect that answers with two numbers, of one row.

        They are those of the rows that ``update`` writes, and of those of them in which ``column``
        has a value then. None if the database has no such statement.
        """
        return None


class Transport(Protocol):
    """The sending of hints between processes, through one database."""

    def send(self, hint: Any) -> bool:
        """Send ``hint`` on the calling thread's connection; whether anything was sent."""


class Engine(Protocol):
    """The services that ``StatorModel`` and its hints are given by the layers above."""

    def claim(self, model: Any, number: int, lease: float, using: str) -> list[Any]:
        """Claim up to ``number`` due rows of ``model`` for ``lease`` seconds."""

    def check(self, row: Any) -> State | None:
        """Run the check of ``row`` here and now, and write its outcome."""

    def explain(self, row: Any) -> Explanation:
        """Say why ``row`` does not move."""

    def expire(self, model: Any, using: str) -> int:
        """Delete rows that have outlived their state's ``delete_after``."""

    def submit(self, target: Any, trigger: str, context: Any, **options: Any) -> int:
        """Write a durable event of one row; the key of its record."""

    def submit_for(self, rows: Any, trigger: str, context: Any, **options: Any) -> int:
        """Write one for each row of a queryset; how many."""

    def deliver(self, events: list[Any]) -> list[Any]:
        """Deliver claimed events, and those before them; an answer of the check for each."""

    def begin_bulk(self, action: Any) -> Any:
        """See how many rows a bulk action is for; the answer of its check."""

    def run_bulk(self, action: Any) -> Any:
        """Do a bulk action to some of its rows; the answer of its check."""

    def has_events(self, model: Any, using: str) -> bool:
        """Whether there are events for rows of ``model`` that have not come to an end."""

    def wake_events(self, model: Any, keys: Iterable[Any], using: str) -> None:
        """Make the events due that wait for these rows of ``model``."""

    def hint_transport(self, using: str) -> Transport | None:
        """The transport that sends hints through the database ``using``; None if there is none."""

    def log_move(self, row: QuerySet[Any], move: Any) -> bool:
        """Log that the one row of ``row`` is moved, and lock it; False if there is none.

        ``move`` is a ``LoggedMove``; the state that the row is in, and since when, is read.
        """

    def log_moves(self, model: Any, moves: Sequence[Any], using: str) -> None:
        """Log ``moves``, each a ``LoggedMove`` of a row of ``model``."""

    def is_contention(self, error: BaseException) -> bool:
        """Whether the same transaction may well succeed if it is tried again in a moment."""

    def dialect(self, connection: Any) -> Dialect:
        """How the database of ``connection`` spells the ORM's terms, and how it locks."""


_engine: Engine | None = None


def install(engine: Engine) -> None:
    """Make ``engine`` the one in use; called once, when the application is ready."""
    global _engine
    _engine = engine


def is_installed() -> bool:
    """Whether the application is ready."""
    return _engine is not None


def engine() -> Engine:
    """The installed engine; ``RuntimeError`` before the application is ready."""
    if _engine is None:
        raise RuntimeError(
            "Add 'django_fsmworker' to INSTALLED_APPS and call django.setup() first."
        )
    return _engine
