"""The events of rows that are locked, as they are read for delivery."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any

from django.db.models import Q

from django_fsmworker.events.endings import pending
from django_fsmworker.events.refusing import sentences_of
from django_fsmworker.models.event import Event
from django_fsmworker.store import Store

MOST_READ = 500


def read_fired(
    store: Store, label: str, rows: Mapping[tuple[int, str], Any], now: datetime
) -> tuple[list[Event], bool]:
    """The events of these rows, by their names, that have fired; in order, and not very many.

    What does not fit is left for another time: rows behind others, and a part of the events of a
    single row that has more. Then the second value is true, and those are left out that the row has
    not taken in the state in which it is: nothing has to wait for them, until it moves.
    """
    events = store.fired_events(label, {number for number, _ in rows}, now, MOST_READ)
    if len(events) < MOST_READ:
        return events, False
    last = events[-1].row_hash
    whole = [event for event in events if event.row_hash != last]
    if whole:
        return whole, False
    refused = reduce(
        or_,
        (
            Q(row=name, reason__in=sentences_of(row.__dict__["state"]))
            for (number, name), row in rows.items()
            if number == last
        ),
    )
    at_rest = Q(refused, state_claim=None, state_failures=0, state_next__gt=now)
    of_row = pending(store.alias).filter(model=label, row_hash=last, fires_at__lte=now)
    return list(of_row.exclude(at_rest).order_by("fires_at", "pk")[:MOST_READ]), True
