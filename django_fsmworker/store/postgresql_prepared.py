"""Claims that the server has parsed and planned before: a third less from idle to a check.

Only where a session lasts, which hints that arrive prove, and only for a runner that finds little
to do. A kept plan is one for the table as it was: where many rows came since, it may read all of
them. So the claim after one that was slow, or found much, is planned anew, as are all large ones,
for which it is nothing beside the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from django_fsmworker.store.claims import Lane

FEW, LITTLE_ROOM = 10, 100
SOON = 0.005  # seconds
# The server does not know the statement, knows another one by its name, or what it returns has
# changed: PostgreSQL's appendix A, and its manual on PREPARE.
STALE = {"26000", "42P05", "0A000"}
BY_ITSELF = 1_000_000


class KeptPlan:
    """The plan of one model's claims, as long as it is worth keeping."""

    def __init__(self) -> None:
        self._version = 0
        self._is_quiet = False

    def suits(self, lanes: Sequence[Lane]) -> bool:
        """Whether the next claim, of these lanes, is to use it."""
        return self._is_quiet and sum(lane.limit for lane in lanes) <= LITTLE_ROOM

    def versioned(self, sql: str) -> str:
        """The statement with the plan's number: under another one it is planned anew."""
        return f"{sql} -- {self._version}"

    def took(self, seconds: float, found: int) -> None:
        """A claim took so long, by this plan or not, and so many rows."""
        quick = seconds <= SOON
        self._is_quiet = quick and found <= FEW
        if not quick:
            self.drop()

    def drop(self) -> None:
        """Plan the next one anew."""
        self._version += 1


def can_prepare(connection: Any) -> bool:
    """Whether its driver is psycopg 3."""
    return hasattr(connection.Database, "ClientCursor")


def preparing_cursor(connection: Any) -> Any:
    """A cursor like Django's, but what it executes the server keeps."""
    connection.ensure_connection()
    raw = connection.connection
    if raw.prepare_threshold is None:  # Django's default, which forbids it to everybody
        raw.prepare_threshold = BY_ITSELF
    wrap = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
    return wrap(_preparing(connection.Database)(raw))


@cache
def _preparing(driver: Any) -> Any:
    class Preparing(driver.Cursor):  # type: ignore[misc]
        def execute(self, query: Any, params: Any = None) -> Any:
            return super().execute(query, params, prepare=True)

    return Preparing
