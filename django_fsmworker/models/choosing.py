"""Which transition an event takes on a row: its state, who may send it, and its conditions."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from django_fsmworker.exceptions import Refusal
from django_fsmworker.graph import EventInfo, EventTransition
from django_fsmworker.graph.callables import refuse_awaitable
from django_fsmworker.graph.events import is_codename, is_condition, resolve
from django_fsmworker.models.keys import declaring_model, key_of


def user_in(by: Any) -> Any:
    """The user among what ``by=`` may be; None for the program itself and the name of one.

    Raises ``TypeError`` for anything else, such as the key of a user: no permission would be asked.
    """
    if by is None or isinstance(by, str):
        return None
    if not (hasattr(by, "has_perm") or hasattr(by, "is_authenticated")):
        raise TypeError(
            f"by={by!r} is neither a user nor the name of a program; give one, or None."
        )
    return by


def choose(row: Any, event: EventInfo, user: Any = None) -> EventTransition | Refusal:
    """The transition that ``event`` takes on ``row``, or why it takes none.

    It is the first that ``user`` may take and whose condition is true. Several may differ in their
    permissions, so these are looked at first: whoever may take none learns nothing else.

    Args:
        row: A row as it is in the database; whoever acts on the answer has locked it.
        event: What is sent.
        user: Who sends it; None for a program, for which permissions do not apply.
    """
    graph = row.state_graph
    if event.trigger not in graph.triggers:
        return "unknown_event"
    state = graph.states.get(row.state)  # another build may have put it where this one knows none
    edges = state.events.get(event.trigger, ()) if state else ()
    if not edges:
        return "source_state"
    permitted = [edge for edge in edges if is_permitted(edge, row, user)]
    if not permitted:
        return "permission"
    return next((edge for edge in permitted if is_fulfilled(edge, row, event)), "condition")


def is_permitted(edge: EventTransition, row: Any, user: Any) -> bool:
    """Whether ``user`` may take ``edge`` on ``row``; a program (None) may take all.

    A permission of Django's is asked for in general, then for this row, as backends with
    permissions for objects answer it.
    """
    permission = edge.permission
    if user is None or permission is None:
        return True
    if not is_codename(permission):
        return _is_true(resolve(row.state_graph, permission)(row, user), "permission", edge)
    if not hasattr(user, "has_perm"):
        raise TypeError(
            f"on({edge.trigger!r}) of {edge.source!r} asks for the permission {permission}, and "
            f"{user!r} has no has_perm(); give by= a user, or the name of a program as a str."
        )
    return bool(user.has_perm(permission) or user.has_perm(permission, row))


def is_fulfilled(edge: EventTransition, row: Any, event: EventInfo) -> bool:
    """Whether the condition of ``edge`` is true of ``row``; so is none at all."""
    if edge.when is None:
        return True
    if is_condition(edge.when):
        return matching(row, edge.when).exists()
    return _is_true(resolve(row.state_graph, edge.when)(row, event), "condition", edge)


def _is_true(answer: Any, asked: str, edge: EventTransition) -> bool:
    """Whether a method of the graph said yes; a coroutine, which is true, has said nothing."""
    if not isinstance(answer, bool):
        of = f"The {asked} of on({edge.trigger!r}) of {edge.source!r}"
        refuse_awaitable(of, answer, "write it, and what decorates it, with def")
    return bool(answer)


def matching(row: Any, condition: Any) -> QuerySet[Any]:
    """The row that has the state of ``row``, if the condition of the database is true of it."""
    rows: QuerySet[Any] = QuerySet(declaring_model(type(row)), using=row._state.db)
    return rows.filter(pk=key_of(row)).filter(condition)
