"""One call of the check of events: transactions that deliver them, as many as there is time for."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import Error

from django_fsmworker.events.crossings import Deadlock, crossed, has_crossed
from django_fsmworker.events.delivery import PENDING, Delivery
from django_fsmworker.events.endings import release
from django_fsmworker.events.overrun import Overrun
from django_fsmworker.events.user_code import Surrounding
from django_fsmworker.exceptions import TryAgainLater
from django_fsmworker.models.event import Event
from django_fsmworker.store import Ending, Settled, Store
from django_fsmworker.store.errors import is_contention
from django_fsmworker.store.failures import survived

# Seconds after which no further event is begun; the deadline may make it less.
PATIENCE = 5.0
# Seconds to wait for rows that others have locked, and between two looks; then until the next try.
LOCK_PATIENCE, LOCK_LOOK, LOCKED_WAIT = 0.25, 0.02, 0.05


def deliver(
    store: Store, model: Any, events: Sequence[Event], worker: str, around: Surrounding
) -> dict[int, Any]:
    """Deliver claimed events of rows of ``model``; an answer for each, by its key.

    ``around`` calls the project's code for each.
    Events that are left when the time is over are free again, due as they were.
    """
    overrun, answers = Overrun(len(events)), dict[int, Any]()
    patience = min(PATIENCE, overrun.deadline / 2)
    left, progress = list(events), time.monotonic()
    end = progress + patience
    while left and time.monotonic() < min(end, progress + min(LOCK_PATIENCE, patience)):
        apart = has_crossed(store.alias, model)
        some = _of_one_row(left) if apart else left
        found, progressed = _deliver_some(store, model, some, worker, overrun, end, around, apart)
        answers |= found
        left = [event for event in left if event.pk not in answers]
        if progressed or found:
            progress = time.monotonic()
        else:
            left = [event for event in left if event not in some] + some  # others may have a turn
            time.sleep(LOCK_LOOK)  # mostly another thread has locked them that delivers events, too
    answers |= _released(store, left)
    # This process lives, and so no note that it may die of them is to stay.
    unharmed = [
        event.pk
        for event in events
        if event.state_failures and isinstance(answers[event.pk], TryAgainLater)
    ]
    if unharmed:
        survived(store.alias, Event, unharmed)
    return answers


def _deliver_some(
    store: Store,
    model: Any,
    events: Sequence[Event],
    worker: str,
    overrun: Overrun,
    end: float,
    around: Surrounding,
    apart: bool,
) -> tuple[dict[int, Any], bool]:
    """One transaction: the answers of the events that had their turn, and whether any had."""
    delivery = Delivery(store, model, events, worker, overrun, end, around, apart=apart)
    try:
        found = delivery.run()
        delivery.leave_session()
        return found, delivery.progressed
    except Deadlock:
        crossed(store.alias, model)
        return {}, False
    except Error as error:
        if not is_contention(error):
            raise
        return {}, False


def _of_one_row(events: Sequence[Event]) -> list[Event]:
    """Those of the row to which the first one is addressed."""
    first = events[0]
    return [each for each in events if (each.row_hash, each.row) == (first.row_hash, first.row)]


def _released(store: Store, events: Sequence[Event]) -> dict[int, Any]:
    """Free events, due as they were; suspects stay so until they are tried."""
    suspects = [event for event in events if event.state_failures]
    others = [event for event in events if not event.state_failures]
    if others:
        try:
            with store.transaction(LOCK_LOOK):
                release(store.alias, others)
        except Error as error:
            if not is_contention(error):
                raise
            return _later(event.pk for event in events)  # the settler waits longer
    wait = LOCKED_WAIT * random.uniform(0, 1)
    answer = Settled(Ending.STAYED, PENDING, wait, given_back=True)
    free = dict.fromkeys((event.pk for event in others), answer)
    return free | _later(event.pk for event in suspects)


def _later(keys: Iterable[int]) -> dict[int, Any]:
    """The answer for events that come back in a moment; nothing is counted."""
    wait = LOCKED_WAIT * random.uniform(1, 2)
    return {pk: TryAgainLater(wait, keep_failures=True) for pk in keys}
