"""Rules about the check of one state."""

from __future__ import annotations

import inspect

from django_fsmworker.graph.kinds import is_generator_function
from django_fsmworker.graph.states import State


def automatic_has_a_check(state: State) -> str | None:
    if not state.checked or check_of(state) is not None:
        return None
    return (
        "it is automatic but has no check; write a classmethod"
        f" {state.transition_function}({parameters(state)}), or declare it manual=True."
    )


def terminal_has_no_check(state: State) -> str | None:
    if not state.terminal or check_of(state) is None:
        return None
    return (
        f"it is terminal, so its check {state.transition_function} would never run;"
        " remove the check, or declare where the state leads with transitions_to."
    )


def check_is_bound(state: State) -> str | None:
    if not state.checked or isinstance(check_of(state), classmethod | staticmethod):
        return None
    name = state.transition_function
    return f"{name} is not a classmethod; write it as @classmethod def {name}({parameters(state)})."


def check_is_no_generator(state: State) -> str | None:
    if not state.checked or not is_generator_function(check_of(state)):
        return None
    return (
        f"{state.transition_function} is a generator function, which cannot return a state;"
        " write it without yield, as def or async def."
    )


def atomic_is_sync(state: State) -> str | None:
    if not state.atomic or not state.checked or not state.is_async:
        return None
    return (
        f"it is atomic=True, but {state.transition_function} is async, and a coroutine cannot keep"
        " a transaction open; write it without async, or leave atomic out."
    )


def check_takes_a_row(state: State) -> str | None:
    if not state.checked:
        return None
    name = state.transition_function
    try:
        inspect.signature(state.handler).bind(object())
    except TypeError:
        given = "a row" if state.batch is None else "a list of rows"
        return f"{name} cannot be called with {given}; write it as def {name}({parameters(state)})."
    except ValueError:  # Written in C, without a signature to look at.
        return None
    return None


def parameters(state: State) -> str:
    """Those of a check, as sentences show them."""
    return "cls, instance" if state.batch is None else "cls, rows"


def check_of(state: State) -> object:
    return state.place.check if state.place else None
