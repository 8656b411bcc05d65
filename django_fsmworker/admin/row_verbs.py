"""What a user may do to a row now: the operators' verbs, its events and its declared moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db.models import BooleanField, Case, Value, When
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_fsmworker.exceptions import NotAllowed
from django_fsmworker.models import EventOffer
from django_fsmworker.models.keys import stored
from django_fsmworker.models.operating import Cancel, Operation, Park, Retry, Unpark

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

OPERATIONS: dict[str, tuple[type[Operation], Any, Any]] = {
    "retry": (Retry, _("Retry now"), _("It is due already, or a runner holds it.")),
    "park": (Park, _("Park"), _("It is parked already.")),
    "unpark": (Unpark, _("Unpark"), _("It is not parked.")),
    "cancel": (Cancel, _("Cancel"), _("No check runs on it.")),
}
"""The operation, its label, and why it cannot be done where its own refusal says nothing."""


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
    todo = {name: OPERATIONS[name][0](model) for name in names}
    asked = {
        f"_{name}": Case(
            When(operation.eligible(), then=Value(True)),
            default=Value(False),
            output_field=BooleanField(),
        )
        for name, operation in todo.items()
    }
    # Plain keys of a queryset of the model that has the state; it is empty if the row is gone.
    answers = stored(row, row._state.db).annotate(**asked).values(*asked).first() or {}
    return [
        Verb(name, "", OPERATIONS[name][1], "" if answers.get(f"_{name}") else _why(row, name, op))
        for name, op in todo.items()
    ]


def _why(row: Any, name: str, operation: Operation) -> Any:
    try:
        operation.refuse(f"{row._meta.label} {row.pk}", row.state)
    except NotAllowed as refused:
        return refused.user_message
    return OPERATIONS[name][2]


def carry_out(row: Any, name: str, subject: str, by: Any, reason: str, context: Any = None) -> bool:
    """Do it; False if nothing had to be written. Raises what the row's own verb raises."""
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
