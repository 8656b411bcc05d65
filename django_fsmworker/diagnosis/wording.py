"""Times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

from django_fsmworker.graph.durations import span


def when(moment: datetime, now: datetime) -> str:
    """A moment and how far away it is: ``2026-11-28 22:40:00 UTC (in 42 s)``."""
    distance = (moment - now).total_seconds()
    away = f"in {span(distance)}" if distance > 0 else f"{span(distance)} ago"
    return f"{in_utc(moment)} ({away})"


def in_utc(moment: datetime) -> str:
    """A moment, in whatever zone the database was read: ``2026-11-28 22:40:00 UTC``."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
