"""What a user may do to a row now: the operators' verbs, its events and its declared moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext

from django_fsmworker.bulk.verbs import LABELS
from django_fsmworker.exceptions import NotAllowed
from django_fsmworker.models import EventOffer
from django_fsmworker.models.keys import stored
from django_fsmworker.models.operating import (
    WHY_NOT,
    Cancel,
    Operation,
    Park,
    Retry,
    Unpark,
    why_not,
)

PERMISSIONS = {
    "retry": "retry_row",
    "park": "park_row",
    "unpark": "park_row",
    "cancel": "cancel_row",
    "send": "send_event",
    "move": "move_row",
    "force": "force_row",
    "restart": "force_row",
}
"""The permission, of this app, that each verb takes besides the model's own change permission."""

BUTTONS = tuple(name for name in PERMISSIONS if name not in ("force", "restart"))
"""The verbs that a row's page has buttons for."""

OPERATIONS = {each.verb: each for each in (Retry, Park, Unpark, Cancel)}
"""The operators' verbs by their names."""


@dataclass(frozen=True, slots=True)
class Verb:
    """A button: ``name`` and ``subject`` (an event, or a state) are its address."""

    name: str
    subject: str
    label: Any
    refusal: Any = ""
    """Why it cannot be done now; empty if it can."""


def verbs(row: Any, user: Any, allowed: Callable[[str], bool]) -> list[Verb]:
    """What ``user`` is offered, as the row is in the database now; at most three queries.

    ``allowed`` says of a verb's name whether the user may use it; the others are left out.
    """
    names = [name for name in OPERATIONS if allowed(name)]
    found = operations(row, names) if names else []
    if allowed("send"):
        found += [
            Verb("send", offer.trigger, offer.label, _refusal(offer))
            for offer in row.state_events(user)
        ]
    state = row.state_graph.states.get(row.state)
    if state is not None and allowed("move"):
        targets = [each for each in state.graph.states.values() if each in state.unguarded]
        found += [
            Verb("move", each.name, gettext("Move to %(state)s") % {"state": each.label})
            for each in targets
        ]
    return found


def _refusal(offer: EventOffer) -> Any:
    """Why an event is refused; what is filled into its form may yet fulfil its condition."""
    return "" if offer.form and offer.reason == "condition" else offer.user_message


def operations(row: Any, names: list[str]) -> list[Verb]:
    """The operators' verbs of those names, each with why it is refused; one query."""
    model = type(row)
    todo = {name: OPERATIONS[name](model) for name in names}
    asked = {
        f"fsm_{name}_": why_not(operation.eligible(), *operation.reasons())
        for name, operation in todo.items()
    }
    # Plain keys of a queryset of the model that has the state; it is empty if the row is gone.
    answers = stored(row, row._state.db).annotate(**asked).values(*asked).first() or {}
    return [
        Verb(name, "", LABELS[name], _why(row, operation, answers.get(f"fsm_{name}_", "state")))
        for name, operation in todo.items()
    ]


def _why(row: Any, operation: Operation, code: str) -> Any:
    """The sentence for what ``why_not()`` has answered; empty if nothing is in the way."""
    if not code:
        return ""
    try:
        operation.refuse(f"{row._meta.label} {row.pk}", row.state)
    except NotAllowed as refused:
        return refused.user_message
    return WHY_NOT[code]


def carry_out(row: Any, name: str, subject: str, by: Any, reason: str, context: Any = None) -> bool:
    """Call the row's own verb, which may raise; False if nothing had to be written."""
    if name == "send":
        row.state_send(subject, by=by, reason=reason, wait=0, context=context or {})
    elif name == "move":
        row.state_move(subject, by=by, reason=reason, running="refuse")
    elif name == "park":
        return bool(row.state_park(reason, by=by))
    else:
        act = {"retry": row.state_retry, "unpark": row.state_unpark, "cancel": row.state_cancel}
        return bool(act[name](by=by, reason=reason))
    return True
