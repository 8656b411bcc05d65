"""What the durable events of a row wait for: a reason for each sort of waiting.

None of them keeps a claim from taking the row, so none of them blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db.models import QuerySet

from django_fsmworker.diagnosis.situation import Situation
from django_fsmworker.diagnosis.wording import when
from django_fsmworker.events.endings import pending
from django_fsmworker.events.line import ASKED_FOR_LATER, has_failed
from django_fsmworker.events.refusing import sentences_of
from django_fsmworker.models.event import Event, is_event, named
from django_fsmworker.models.explanation import Reason
from django_fsmworker.models.fields import is_parked_by_hand
from django_fsmworker.models.keys import key_from

# Events of the row that are looked at, the first ones.
LOOKED_AT = 100

SORTS = (
    "event_failing",
    "event_asked_later",
    "event_behind",
    "event_not_taken",
    "event_held",
    "event_delivering",
    "event_due",
    "event_later",
)
"""The sorts of waiting, those first that need somebody most."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that is not delivered, the sort of its waiting, and the one that it waits for."""

    event: Event
    sort: str
    behind: Event | None = None


def events(of: Situation) -> Iterator[Reason]:
    """The events that wait for the row; of an event, what it waits for itself."""
    if is_event(of.model):
        yield from _of_an_event(of)
    elif of.model.state_graph.triggers:
        found = waiting(of)
        for sort in SORTS:
            if some := [each for each in found if each.sort == sort]:
                yield _reason(of, some)


def waiting(of: Situation) -> list[Waiting]:
    """The first events that wait for the row, in their order."""
    row, number = named(of.model, of.key)
    here = pending(of.store.alias).filter(model=of.model._meta.label, row_hash=number, row=row)
    is_ordered, blocker, found = of.model.state_graph.event_order == "row", None, []
    for event in here.order_by("fires_at", "pk")[:LOOKED_AT]:
        sort = _sort(of, event)
        if blocker is not None and sort not in ("event_later", "event_not_taken"):
            found.append(Waiting(event, "event_behind", blocker))
            continue
        found.append(Waiting(event, sort))
        if is_ordered and sort in ("event_failing", "event_asked_later"):
            blocker = event
    return found


def _of_an_event(of: Situation) -> Iterator[Reason]:
    """What an event waits for, as its row sees it."""
    event: Event = of.row
    if event.state != "pending":
        return
    target = _situation_of_row(of, event)
    if target is None:
        yield Reason(
            "event_row_gone",
            f"There is no {event.model} {event.row}: it is discarded when its turn comes.",
            "",
            {"model": event.model, "row": event.row},
            blocks=False,
        )
        return
    for each in waiting(target):
        if each.event.pk == event.pk:
            yield _reason(target, [each])


def _situation_of_row(of: Situation, event: Event) -> Situation | None:
    try:
        model: Any = apps.get_model(event.model)
        key = key_from(model, event.row)
    except (LookupError, ValueError, ValidationError):
        return None
    rows: QuerySet[Any] = QuerySet(model, using=of.store.alias)
    row = rows.filter(pk=key).first()
    return None if row is None else replace(of, row=row)


def _sort(of: Situation, event: Event) -> str:
    if event.fires_at > of.now:
        return "event_later"
    if event.state_lease is not None and event.state_lease > of.now:
        return "event_delivering"
    if event.state_next is None or has_failed(event):
        return "event_failing"
    if event.reason == ASKED_FOR_LATER and event.state_next > of.now:
        return "event_asked_later"
    if event.reason in sentences_of(of.row.state):
        return "event_not_taken"
    return "event_held" if of.is_held else "event_due"


def _reason(of: Situation, some: Sequence[Waiting]) -> Reason:
    """One reason for events of the same sort: it tells of the first."""
    first = some[0]
    sentence, remedy = _words(of, first)
    if len(some) > 1:
        others = len(some) - 1
        sentence += f" So {'does' if others == 1 else 'do'} {others} more."
    evidence: dict[str, Any] = {
        "events": [each.event.pk for each in some],
        "trigger": first.event.trigger,
        "fires_at": first.event.fires_at,
        "next": first.event.state_next,
        "expires_at": first.event.expires_at,
    }
    if first.behind is not None:
        evidence["behind"] = first.behind.pk
    return Reason(first.sort, sentence, remedy, evidence, blocks=False)


def _words(of: Situation, each: Waiting) -> tuple[str, str]:
    """What it waits for, and what would end that."""
    event, name = each.event, _name(each.event)
    if each.sort == "event_failing":
        return _failing(of, event)
    if each.sort == "event_asked_later":
        return f"{name} waits, since its action asked for another try{_at(of, event)}.", ""
    if each.behind is not None:
        first = _name(each.behind)
        return (
            f"{name} waits for {first[0].lower()}{first[1:]}, which comes first.",
            f"Mend that one, or cancel it with 'manage.py stator events cancel {each.behind.pk}'.",
        )
    if each.sort == "event_not_taken":
        expires = event.expires_at
        end = f"; it is discarded at {when(expires, of.now)}" if expires else ""
        return (
            f"{name} waits: {_uncapitalised(event.reason)}, and is tried when the row "
            f"moves, or{_at(of, event)}{end}.",
            "Move the row, or cancel the event.",
        )
    if each.sort == "event_held":
        return f"{name} waits for the check that runs on the row to end.", ""
    if each.sort == "event_delivering":
        return f"{name} is in the hands of a runner.", ""
    if each.sort == "event_later":
        return f"{name} fires at {when(event.fires_at, of.now)}.", ""
    since: datetime = event.fires_at
    return (
        f"{name} is due since {when(since, of.now)} and waits for a runner.",
        f"See whether a runner that serves {event.model} is alive.",
    )


def _failing(of: Situation, event: Event) -> tuple[str, str]:
    name = _name(event)
    if event.state_next is None:
        how = "is parked" if is_parked_by_hand(event) else "has failed and is parked"
        return (
            f"{name} {how}.",
            f"Unpark it: 'manage.py stator unpark {Event._meta.label} {event.pk}'.",
        )
    failure = event.failure
    why = f": {failure.error}: {_first_line(failure.message)}" if failure else ""
    times = "once" if event.state_failures == 1 else f"{event.state_failures} times"
    return (
        f"{name} has failed {times} of {event.max_attempts}{why}; it is tried again"
        f"{_at(of, event)}.",
        f"'manage.py stator events retry {event.pk}' tries it now.",
    )


def _name(event: Event) -> str:
    return f"The event {event.trigger} ({event.pk})"


def _at(of: Situation, event: Event) -> str:
    return f" at {when(event.state_next, of.now)}" if event.state_next else ""


def _uncapitalised(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def _first_line(text: str) -> str:
    return text.partition("\n")[0].strip().rstrip(".")
