"""The clock by which rows are due.

Rows are due, leased and expired by their database's clock; this module only adds what a test has
travelled. ``now()`` is this machine's clock: SQLite has no other, and a new row's first due time is
taken from it on every database.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_travelled = timedelta(0)


def now() -> datetime:
    """This machine's time in UTC, plus what a test has travelled."""
    return datetime.now(UTC) + _travelled


def travelled() -> timedelta:
    """How far a test has moved the clock; nothing outside tests."""
    return _travelled


def travel(by: timedelta) -> None:
    """Move every clock of this process, the databases' included, ``by`` forward (or back)."""
    global _travelled
    _travelled += by
