"""Which attributes of a graph's class are its states."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph.states import State

if TYPE_CHECKING:
    from django_fsmworker.graph.stategraph import StateGraph

METHODS = (FunctionType, classmethod, staticmethod, property)


def own_states(
    graph: type[StateGraph], parent: type[StateGraph] | None, reserved: frozenset[str]
) -> dict[str, State]:
    """The states that the body of this very class declares, in their order."""
    found: dict[str, State] = {}
    for name, value in vars(graph).items():
        path = f"{graph.__name__}.{name}"
        if isinstance(value, State):
            _usable_name(path, name, reserved)
            _fresh(path, value, graph, found)
            found[name] = value
        # Python adds dunders of its own, other ones in every version.
        elif not name.startswith("_"):
            _allowed(path, name, value, reserved)
            _no_shadow(path, name, parent)
    return found


def refuse_foreign_states(graph: type[StateGraph], root: type) -> None:
    """A State in a plain mixin would be no member of anything."""
    for base in graph.__mro__:
        for name, value in vars(base).items():
            if isinstance(value, State) and not issubclass(base, root):
                raise GraphError(
                    f"{graph.__name__}: {base.__name__}.{name} is a State in a class that is no"
                    f" StateGraph; declare it in {graph.__name__}."
                )


def _usable_name(path: str, name: str, reserved: frozenset[str]) -> None:
    if name.startswith("_"):
        raise GraphError(
            f"{path}: a state's name must not start with an underscore; rename the state."
        )
    _not_reserved(path, name, reserved)


def _not_reserved(path: str, name: str, reserved: frozenset[str]) -> None:
    if name in reserved:
        raise GraphError(f"{path}: StateGraph itself uses this name; choose another name.")


def _fresh(path: str, state: State, graph: type[StateGraph], found: dict[str, State]) -> None:
    for name, other in found.items():
        if other is state:
            raise GraphError(
                f"{path}: this is the same State object as {graph.__name__}.{name};"
                " give each name a State() of its own."
            )
    if state.place is not None:
        raise GraphError(
            f"{path}: this State object is {state.place.path} already;"
            " give each name a State() of its own."
        )


def _allowed(path: str, name: str, value: object, reserved: frozenset[str]) -> None:
    _not_reserved(path, name, reserved)
    if not isinstance(value, METHODS):
        raise GraphError(
            f"{path}: a graph holds states and methods, not {type(value).__name__};"
            " remove it, or start its name with an underscore."
        )


def _no_shadow(path: str, name: str, parent: type[StateGraph] | None) -> None:
    if parent is not None and name in parent.states:
        raise GraphError(
            f"{path}: {parent.__name__}.{name} is a state, and a method would hide it;"
            " rename the method."
        )
