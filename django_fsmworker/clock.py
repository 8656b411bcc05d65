"""This machine's clock, and by how much tests have moved the clocks.

Due times, leases and expiry go by the database's clock, which the store reads and shifts by
``travelled()``. ``now()`` is for what this machine dates itself: the first due time of a new row,
the times in records, and everything on SQLite, which has no clock of its own.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.utils import timezone

_travelled = timedelta(0)


def now() -> datetime:
    """The present time in UTC by this machine's clock, plus ``travelled()``."""
    return datetime.now(UTC) + _travelled


def seconds_until(moment: datetime) -> float:
    """The seconds from ``now()`` to ``moment``, which is in Django's time zone if it names none."""
    aware = moment if timezone.is_aware(moment) else timezone.make_aware(moment)
    return (aware - now()).total_seconds()


def travelled() -> timedelta:
    """By how much a test has moved the clocks; zero outside tests."""
    return _travelled


def travel(by: timedelta) -> None:
    """Move every clock of this process, the databases' included, forward by ``by``, or back."""
    global _travelled
    _travelled += by
