"""What people do to events that are on record: cancel those that wait, try others once more."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.db import router, transaction
from django.db.models import QuerySet

from django_fsmworker.events.endings import end_all, pending, wake_rows
from django_fsmworker.models.event import Event, EventStates
from django_fsmworker.models.functions import DatabaseNow
from django_fsmworker.models.locking import lockable, locked

TRIED_AGAIN = tuple(
    state.name for state in (EventStates.failed, EventStates.discarded, EventStates.cancelled)
)
"""The ends after which an event can be tried once more."""


def cancel_event(event: int, *, reason: str = "", using: str | None = None) -> bool:
    """Cancel an event that is not delivered yet, in the caller's transaction; whether it was.

    False means that it has come to an end already, or is not there. ``reason`` is kept with it.
    ``using`` is the alias of its database, by default the one that the routers write events to.
    """
    alias = using or router.db_for_write(Event)
    this = pending(alias).filter(pk=event)
    row = this.values_list("model", "row_hash").first()
    if row is None:
        return False
    with transaction.atomic(using=alias, savepoint=False):
        if not end_all(this, EventStates.cancelled.name, reason):
            return False
        wake_rows(alias, row[0], [row[1]])  # those that wait for it
    return True


def retry_event(event: int, *, by: Any = None, reason: str = "", using: str | None = None) -> bool:
    """Have an event delivered that failed, was discarded or cancelled; whether there is anything
    to deliver.

    It gets all its attempts, and its place in the order by the time it fired. One that waits, for
    its next try or for its row to take it, is tried now. False means that it is delivered, that it
    has not fired yet, or that it is not there. ``by``, a user or the name of a program, and
    ``reason`` are for the log; ``using`` is the alias of its database, by default the one that the
    routers write events to.
    """
    alias = using or router.db_for_write(Event)
    events: QuerySet[Event] = QuerySet(Event, using=alias)
    with transaction.atomic(using=alias):
        this = events.filter(pk=event)
        found = next((each for some in lockable(this) for each in locked(some)), None)
        if found is None or found.state == EventStates.delivered.name:
            return False
        if found.state in TRIED_AGAIN:
            found.state_transition(EventStates.pending, by=by, reason=reason)
            this.update(reason="")
            return True
        if not this.filter(fires_at__lte=DatabaseNow()).exists():
            return False
        found.state_retry(by=by, reason=reason)
    return True


async def acancel_event(event: int, *, reason: str = "", using: str | None = None) -> bool:
    """``cancel_event()`` for async code."""
    return await sync_to_async(cancel_event)(event, reason=reason, using=using)


async def aretry_event(
    event: int, *, by: Any = None, reason: str = "", using: str | None = None
) -> bool:
    """``retry_event()`` for async code."""
    return await sync_to_async(retry_event)(event, by=by, reason=reason, using=using)
