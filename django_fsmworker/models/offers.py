"""What a row takes now: the events of its state, each with why it would be refused, if it would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import router
from django.db.models import Exists, QuerySet
from django.utils.module_loading import import_string

from django_fsmworker import clock
from django_fsmworker.exceptions import Refusal
from django_fsmworker.graph import EventInfo, EventTransition, State
from django_fsmworker.graph.events import is_condition
from django_fsmworker.models.choosing import is_fulfilled, is_permitted, matching, user_in
from django_fsmworker.models.keys import key_name, key_of
from django_fsmworker.models.refusals import FOR_USERS


@dataclass(frozen=True)
class EventOffer:
    """An event that a row takes in its present state, or why it does not at present.

    Args:
        trigger: The name of the event, to send it by.
        label: What people read, possibly a lazy translation.
        target: The state that the row would move to; None if it would stay where it is.
        form: Class of the form, or its dotted path, in which people give what the event needs.
        permission: What a user needs, as ``State.on()`` was given it.
        reason: Why it would be refused: ``"permission"`` or ``"condition"``; None if it would not.
    """

    trigger: str
    label: Any
    target: State | None
    form: Any
    permission: Any
    reason: Refusal | None

    @property
    def allowed(self) -> bool:
        """Whether the row takes the event now, but for a check that is running."""
        return self.reason is None

    @property
    def user_message(self) -> Any:
        """Why not, for the people who use your application, as a lazy translation; or empty."""
        return "" if self.reason is None else FOR_USERS[self.reason]

    @property
    def form_class(self) -> Any:
        """The class of the form, imported if it was given as a dotted path; None without one."""
        return import_string(self.form) if isinstance(self.form, str) else self.form


def offers(instance: Any, by: Any) -> list[EventOffer]:
    """The events of the state that the row has in the database, in their order."""
    row = _fresh(instance)
    state = row.state_graph.states.get(row.state)
    if state is None:
        return []
    user = user_in(by)
    permitted = {
        trigger: [edge for edge in edges if is_permitted(edge, row, user)]
        for trigger, edges in state.events.items()
    }
    true = _true(row, [edge for edges in permitted.values() for edge in edges], by)
    return [
        _offer(edges, permitted[trigger], [edge for edge in permitted[trigger] if edge in true])
        for trigger, edges in state.events.items()
    ]


def _fresh(instance: Any) -> Any:
    using = router.db_for_write(type(instance), instance=instance)
    rows: QuerySet[Any] = QuerySet(type(instance), using=using)
    return rows.get(**{key_name(type(instance)): key_of(instance)})


def _true(row: Any, edges: list[EventTransition], by: Any) -> list[EventTransition]:
    """The part of ``edges`` whose condition is true; the database is asked once for all."""
    asked = [edge for edge in edges if is_condition(edge.when)]
    answers: dict[str, bool] = {}
    if asked:
        exist = {f"fsm_{n}_": Exists(matching(row, edge.when)) for n, edge in enumerate(asked)}
        rows: QuerySet[Any] = QuerySet(type(row), using=row._state.db)
        found = rows.filter(pk=row.pk).annotate(**exist).values(*exist).first()
        answers = found or {}
    true = [edge for n, edge in enumerate(asked) if answers.get(f"fsm_{n}_")]
    now = clock.now()
    for edge in edges:
        if edge not in asked:
            event = EventInfo(trigger=edge.trigger, by=by, submitted=now)
            if is_fulfilled(edge, row, event):
                true.append(edge)
    return true


def _offer(
    edges: tuple[EventTransition, ...],
    permitted: list[EventTransition],
    true: list[EventTransition],
) -> EventOffer:
    """What is offered for one event: what it would do, or would do if it were not refused."""
    edge = next(iter(true or permitted or edges))
    reason: Refusal | None = None if true else "condition" if permitted else "permission"
    label = edge.trigger if edge.label is None else edge.label
    return EventOffer(edge.trigger, label, edge.target, edge.form, edge.permission, reason)
