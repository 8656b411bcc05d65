"""What is written of events: their ends, and when those that wait are looked at again.

It is written by whoever holds the lock of the row that the events are for. A claim on the event
itself is dropped with the same write, whoever has it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, transaction
from django.db.models import QuerySet
from django.db.models.functions import Least

from django_fsmworker.models.entering import columns_entering
from django_fsmworker.models.event import Event, EventStates
from django_fsmworker.models.fields import MOST_FAILURES
from django_fsmworker.models.functions import DatabaseNow
from django_fsmworker.models.hints import hint_due
from django_fsmworker.models.keys import MOST_KEYS, portions
from django_fsmworker.models.locking import locked

LONGEST_REASON = 255

# Until an event that its row does not take is tried again, if nothing moves the row: half as long
# as it has waited already, in these bounds. Conditions may look at other rows.
SHORTEST_WAIT, LONGEST_WAIT = 5.0, 3600.0

FREE: dict[str, Any] = {"state_lease": None, "state_claim": None}


def pending(alias: str) -> QuerySet[Event]:
    """The events that have not come to an end."""
    events: QuerySet[Event] = QuerySet(Event, using=alias)
    return events.filter(state=EventStates.pending.name)


def end(alias: str, keys: Sequence[int], state: str, reason: str = "") -> int:
    """Put pending events into one of their last states; how many."""
    return sum(
        end_all(pending(alias).filter(pk__in=some), state, reason)
        for some in portions(list(keys), MOST_KEYS)
    )


def end_all(events: QuerySet[Event], state: str, reason: str = "") -> int:
    """Write one end for all events of a queryset."""
    columns = columns_entering(
        state=state,
        now=DatabaseNow(),
        due=lambda _: None,
        failures=0,
        lease=None,
        claim=None,
        history=None,
    )
    columns["reason"] = reason[:LONGEST_REASON]
    return events.update(**columns)


@dataclass(frozen=True, slots=True)
class Wait:
    """For how many seconds an event is left alone, and what it waits for.

    An event with a ``reason`` of its own is stepped over meanwhile. One without has been held up by
    those before it, and keeps its place. ``refused``: its row does not take it. That is no failure,
    and those before are past: they are not in a row any more, and nothing has to wait for it.
    """

    seconds: float
    reason: str = ""
    refused: bool = False

    @classmethod
    def of_refused(cls, event: Event, now: datetime, reason: str) -> Wait:
        """That of an event that its row does not take, until it is tried again all the same."""
        waited = (now - event.fires_at).total_seconds()
        wait = min(max(SHORTEST_WAIT, waited / 2), LONGEST_WAIT)
        if event.expires_at is not None:
            wait = min(wait, (event.expires_at - now).total_seconds())
        return cls(wait, reason, refused=True)


def postpone(alias: str, waits: Mapping[int, Wait]) -> None:
    """Look at pending events again later, by their keys; no failure is counted."""
    by_wait: defaultdict[Wait, list[int]] = defaultdict(list)
    for key, wait in waits.items():
        by_wait[wait].append(key)
    for wait, keys in by_wait.items():
        columns = {
            "state_next": DatabaseNow() + timedelta(seconds=wait.seconds),
            "reason": wait.reason[:LONGEST_REASON],
            **({"state_failures": 0} if wait.refused else {}),
        }
        for some in portions(keys, MOST_KEYS):
            pending(alias).filter(pk__in=some).update(**columns, **FREE)


def release(alias: str, events: Sequence[Event]) -> None:
    """Free events that this process has claimed, and not tried; they are due as they were.

    A renewal of the claim has put that off.
    """
    by_claim: defaultdict[int | None, list[int]] = defaultdict(list)
    for event in events:
        by_claim[event.state_claim].append(event.pk)
    for claim, keys in by_claim.items():
        claimed = pending(alias).filter(pk__in=keys, state_claim=claim)
        claimed.update(state_next=Least("state_next", DatabaseNow()), **FREE)


def fail(alias: str, key: int, failures: int, wait: float, reason: str) -> int:
    """Count a failure of a pending event, which is tried again after ``wait`` seconds."""
    columns = {
        "state_next": DatabaseNow() + timedelta(seconds=wait),
        "state_failures": min(failures, MOST_FAILURES),
        "reason": reason[:LONGEST_REASON],
    }
    return pending(alias).filter(pk=key).update(**columns, **FREE)


def note_failures(alias: str, failures: Iterable[tuple[int, str]]) -> None:
    """Give events, which a runner has settled as failed, the reason why; by their keys."""
    by_reason: defaultdict[str, list[int]] = defaultdict(list)
    for key, reason in failures:
        by_reason[reason[:LONGEST_REASON]].append(key)
    events: QuerySet[Event] = QuerySet(Event, using=alias)
    for reason, keys in by_reason.items():
        for some in portions(keys, MOST_KEYS):
            events.filter(pk__in=some).update(reason=reason)


def wake_rows(alias: str, label: str, hashes: Sequence[int]) -> int:
    """Make the events due now that have fired and wait for these rows; how many.

    Not those that failed and wait for their next try, nor those that somebody has claimed. One that
    somebody has locked is left to its next try: who moves a row waits for nobody here, and locks of
    several are taken in one order.
    """
    now, number = DatabaseNow(), 0
    for some in portions(sorted(set(hashes)), MOST_KEYS):
        waiting = pending(alias).filter(
            model=label,
            row_hash__in=some,
            fires_at__lte=now,
            state_next__gt=now,
            state_claim__isnull=True,
            state_failures=0,
        )
        # As usual there is none. (In the caller's transaction it might not be seen without a lock.)
        if not connections[alias].in_atomic_block and not waiting.exists():
            continue
        with transaction.atomic(using=alias, savepoint=False):
            free = list(locked(waiting, skip=True).values_list("pk", flat=True))
            for few in portions(free, MOST_KEYS):
                number += pending(alias).filter(pk__in=few).update(state_next=now)
    if number:
        hint_due(Event, alias, 0.0)
    return number
