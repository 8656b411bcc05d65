"""The rules about what events do in a state: each gets an edge and says what is wrong with it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from django_fsmworker.graph.callables import is_coroutine_function, is_generator_function
from django_fsmworker.graph.events import is_codename, is_condition, resolve
from django_fsmworker.graph.states import EventTransition, Graph, State


def events_are_sound(state: State) -> str | None:
    for edge in _edges(state):
        for rule in EVENT_RULES:
            if fault := rule(edge):
                return f"on({edge.trigger!r}): {fault}"
    return None


def _edges(state: State) -> Iterator[EventTransition]:
    for tried in state.events.values():
        yield from tried


def condition_can_be_asked(edge: EventTransition) -> str | None:
    if edge.when is None or is_condition(edge.when):
        return None
    if not isinstance(edge.when, str) and not _is_method(edge.when):
        return (
            f"when={edge.when!r} is no condition; give a condition of the database, such as"
            " Q(paid=True), or a classmethod of the graph, or its name."
        )
    return _cannot_be_called(edge, "when", edge.when, "event") or _is_async(edge, "when", edge.when)


def action_can_be_called(edge: EventTransition) -> str | None:
    if edge.action is None:
        return None
    if not isinstance(edge.action, str) and not _is_method(edge.action):
        return (
            f"action={edge.action!r} is not callable; give a classmethod of the graph, or its name."
        )
    return _cannot_be_called(edge, "action", edge.action, "event")


def permission_can_be_asked(edge: EventTransition) -> str | None:
    given = edge.permission
    if given is None or is_codename(given):
        return None
    if not isinstance(given, str) and not _is_method(given):
        return (
            f"permission={given!r} is no permission; give one such as 'shop.release_order', or a"
            " classmethod of the graph, or its name."
        )
    return _cannot_be_called(edge, "permission", given, "user") or _is_async(
        edge, "permission", given
    )


def form_is_a_class(edge: EventTransition) -> str | None:
    given: object = edge.form
    if given is None or isinstance(given, type):
        return None
    if isinstance(given, str) and "." in given and all(map(str.isidentifier, given.split("."))):
        return None
    return (
        f"form={given!r} is not the class of a form; give the class, or its dotted path, such as"
        " 'shop.forms.ReleaseForm'."
    )


def switches_are_switches(edge: EventTransition) -> str | None:
    given: object = edge.interrupts
    if isinstance(given, bool):
        return None
    return f"interrupts={given!r} is neither True nor False; give one of them."


def events_can_be_taken(state: State) -> str | None:
    """After a transition that everybody may take, no other of that event has its turn."""
    for trigger, tried in state.events.items():
        for edge in tried[:-1]:
            if edge.when is None and edge.permission is None:
                return (
                    f"on({trigger!r}) is declared again after a transition without when= and"
                    " permission=, which is always taken first; put that one last, or, if a parent"
                    " graph declares it, redeclare the state to replace it."
                )
    return None


def one_unhandled(graph: type[Graph]) -> str | None:
    said: dict[str, str] = {}
    for state in graph.states.values():
        for edge in _edges(state):
            if edge.unhandled is None:
                continue
            if said.setdefault(edge.trigger, edge.unhandled) != edge.unhandled:
                return (
                    f"on({edge.trigger!r}) says both unhandled={said[edge.trigger]!r} and"
                    f" unhandled={edge.unhandled!r}, which holds for the whole graph; keep one."
                )
    return None


def _is_method(given: object) -> bool:
    return isinstance(given, classmethod | staticmethod) or callable(given)


def _cannot_be_called(edge: EventTransition, option: str, given: Any, second: str) -> str | None:
    graph = edge.source.graph
    if isinstance(given, str):
        if not given.isidentifier():
            return f"{option}={given!r} is not the name of a method; give its name as a str."
        static = inspect.getattr_static(graph, given, None)
        wanted = f"@classmethod def {given}(cls, row, {second})"
        if static is None or isinstance(static, State):
            return f"{option}={given!r} names no method; write a {wanted}, or correct the name."
        if not isinstance(static, classmethod | staticmethod):
            return f"{option}={given!r} is not a classmethod; write it as {wanted}."
    call = resolve(graph, given)
    name = given if isinstance(given, str) else getattr(given, "__name__", repr(given))
    if is_generator_function(call):
        return f"{option}={name} is a generator function; write it without yield."
    try:
        inspect.signature(call).bind(object(), object())
    except TypeError:
        wanted = f"(cls, row, {second}) as a classmethod, or (row, {second})"
        return f"{option}={name} cannot be called with a row and its {second}; write it {wanted}."
    except ValueError:  # Written in C, without a signature to look at.
        return None
    return None


def _is_async(edge: EventTransition, option: str, given: Any) -> str | None:
    if not is_coroutine_function(resolve(edge.source.graph, given)):
        return None
    name = given if isinstance(given, str) else getattr(given, "__name__", repr(given))
    return f"{option}={name} is async, and it is asked while the row is locked; write it with def."


# In this order: a rule may rely on those before it.
EVENT_RULES: tuple[Callable[[EventTransition], str | None], ...] = (
    switches_are_switches,
    condition_can_be_asked,
    action_can_be_called,
    permission_can_be_asked,
    form_is_a_class,
)
