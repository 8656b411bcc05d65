"""Since when a runner holds the rows of a page, noted on each."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django_fsmworker.diagnosis.holding import Holders

SINCE = "_fsmworker_running_since"


def note_running(rows: Iterable[Any], using: str, now: datetime) -> None:
    """Note on each of these rows that a runner holds since when it does; one query if any is held.

    It is not known of every row.
    """
    held = [row for row in rows if is_held(row, now)]
    if not held:
        return
    holders = Holders(using)
    for row in held:
        setattr(row, SINCE, holders.of(row).since)


def running_since(row: Any) -> datetime | None:
    """What was noted on the row; None where it is not known."""
    return getattr(row, SINCE, None)


def is_held(row: Any, now: datetime) -> bool:
    """Whether a runner holds the row, as of ``now``."""
    return row.state_claim is not None and row.state_lease is not None and row.state_lease > now
