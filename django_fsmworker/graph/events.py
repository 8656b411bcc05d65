"""What an event's transition may name: conditions, actions, permissions and forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from django_fsmworker.exceptions import GraphError

Unhandled: TypeAlias = Literal["retry", "discard", "fail"]
"""What happens to a durable event that the row's state does not take."""

EventOrder: TypeAlias = Literal["row", "none"]
"""Whether the durable events of one row wait for each other."""

UNHANDLED = ("retry", "discard", "fail")
ORDERS = ("row", "none")

Condition: TypeAlias = Any
"""What ``when=`` takes: a condition of the database, or a callable ``(row, event)`` or its name."""

# In the body of its class a method is not bound: some checkers take it for a classmethod, others
# for a function that has the class for its first argument.
Action: TypeAlias = (
    "str"
    " | Callable[[Any, EventInfo], object]"
    " | Callable[[Any, Any, EventInfo], object]"
    " | classmethod[Any, [Any, EventInfo], object]"
    " | staticmethod[[Any, EventInfo], object]"
)
"""What ``action=`` takes: a callable ``(row, event)``, or the name of a method of the graph."""

Permission: TypeAlias = (
    "str"
    " | Callable[[Any, Any], object]"
    " | Callable[[Any, Any, Any], object]"
    " | classmethod[Any, [Any, Any], object]"
    " | staticmethod[[Any, Any], object]"
)
"""What ``permission=`` takes: ``"app.codename"``, or a callable ``(row, user)`` or its name."""

Form: TypeAlias = "str | type[Any]"
"""What ``form=`` takes: the class of a form, or its dotted path."""


@dataclass(frozen=True, kw_only=True)
class EventInfo:
    """An event, as conditions and actions get it.

    Args:
        trigger: The name of the event.
        context: What was sent with it.
        by: Who sent it: a user, the name of a program, or None for the program itself.
        submitted: When it was sent: the moment, if it was sent by ``state_send()``.
        id: The key of the durable event's record; None for one that was sent by ``state_send()``.
    """

    trigger: str
    context: Mapping[str, Any] = field(default_factory=dict)
    by: Any = None
    submitted: datetime | None = None
    id: int | None = None


def resolve(graph: type[Any], named: Any) -> Callable[..., Any]:
    """The callable that an event's transition names, bound to ``graph``.

    Args:
        graph: The graph in which it is called. Its own method counts where it overrides a parent
            graph's.
        named: The name of a method, a classmethod or staticmethod of the graph, or any callable.

    Raises:
        GraphError: The graph has no such method.
    """
    name = named if isinstance(named, str) else _name_in(graph, named)
    if name is not None:
        method = getattr(graph, name, None)
        if not callable(method):
            raise GraphError(
                f"{graph.__name__} has no method {name}; write it, or correct the name."
            )
        return method  # type: ignore[no-any-return]
    if isinstance(named, classmethod | staticmethod):
        return named.__get__(None, graph)
    return named  # type: ignore[no-any-return]


def _name_in(graph: type[Any], method: Any) -> str | None:
    """The name by which a graph of this line has the method; None if none has it."""
    name = getattr(method, "__name__", None)
    if isinstance(name, str) and any(vars(each).get(name) is method for each in graph.__mro__):
        return name
    return None


def is_condition(when: Any) -> bool:
    """Whether ``when`` is asked in the database: a ``Q``, an ``Exists``, a lookup."""
    return not isinstance(when, type) and getattr(when, "conditional", False) is True


def is_codename(permission: Any) -> bool:
    """Whether ``permission`` is one of Django's, such as ``"shop.release_order"``."""
    return isinstance(permission, str) and "." in permission
