"""The rules that a graph must keep, checked when its class is created.

A rule about a state gets the state and returns what is wrong with it; a rule about the whole graph
gets the graph. Each answer is one sentence that says what to do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph import backoff, reach
from django_fsmworker.graph.kinds import is_generator_function
from django_fsmworker.graph.states import State
from django_fsmworker.graph.transitions import Kind

if TYPE_CHECKING:
    from django_fsmworker.graph.stategraph import StateGraph

# The column that counts failures is a small integer and saturates there.
MOST_ATTEMPTS = 32_767


def validate(graph: type[StateGraph]) -> None:
    """Raise ``GraphError`` for the first rule that the graph does not keep."""
    for rule in STATE_RULES:
        for state in graph.states.values():
            if fault := rule(state):
                raise GraphError(f"{graph.__name__}.{state}: {fault}")
    for graph_rule in GRAPH_RULES:
        if fault := graph_rule(graph):
            raise GraphError(f"{graph.__name__}: {fault}")


# Options.


def declared_well(state: State) -> str | None:
    return state.declared.faults[0] if state.declared.faults else None


def function_is_a_name(state: State) -> str | None:
    function: object = state.declared_function
    if function is None or (isinstance(function, str) and function.isidentifier()):
        return None
    return f"transition_function={function!r} is not the name of a method; give its name as a str."


def attempts_in_range(state: State) -> str | None:
    attempts = state.max_attempts
    if attempts is None or (type(attempts) is int and 1 <= attempts <= MOST_ATTEMPTS):
        return None
    return (
        f"max_attempts={attempts!r} is not a whole number from 1 to {MOST_ATTEMPTS};"
        " give one, or None to retry for ever."
    )


def backoff_is_callable(state: State) -> str | None:
    wanted = "give a callable from failures to seconds, such as exponential(base=5)"
    given: object = state.backoff
    if given is not None and not callable(given):
        return f"backoff={given!r} is not callable; {wanted}."
    for name in ("exponential", "linear", "constant"):
        if given is getattr(backoff, name):
            return f"backoff={name} is not called yet; {wanted}."
    return None


def automatic_waits_between_checks(state: State) -> str | None:
    if state.automatic and state.retry_after <= 0:
        return "retry_after=0 would run its check without a pause; give more than 0 seconds."
    return None


def automatic_is_not_deleted(state: State) -> str | None:
    if state.automatic and state.delete_after is not None:
        return (
            "delete_after is for terminal and manual states, and the runner progresses this one;"
            " put delete_after on a terminal state and lead there with timeout_to."
        )
    return None


# Edges of one state.


def one_timeout(state: State) -> str | None:
    return _one(state, "timeout", "timeout_to")


def one_failure(state: State) -> str | None:
    return _one(state, "failure", "fails_to")


def _one(state: State, kind: Kind, verb: str) -> str | None:
    if sum(edge.kind == kind for edge in state.transitions) < 2:
        return None
    return (
        f"it has more than one {verb}; keep one of them, or, if a parent graph declares one,"
        " redeclare the state to replace it."
    )


def timeout_leads_away(state: State) -> str | None:
    if state.timeout_state is state:
        return "timeout_to leads back to the state itself; lead to another state."
    return None


def failure_leads_away(state: State) -> str | None:
    if state.failure_state is state:
        return "fails_to leads back to the state itself; lead to another state."
    return None


def manual_does_not_fail(state: State) -> str | None:
    if state.failure_state is not None and not state.automatic:
        return "a manual state runs no check and so cannot fail; remove fails_to or manual=True."
    return None


# Checks.


def automatic_has_a_check(state: State) -> str | None:
    if not state.automatic or _check(state) is not None:
        return None
    return (
        "it is automatic but has no check; write a classmethod"
        f" {state.transition_function}(cls, instance), or declare it manual=True."
    )


def terminal_has_no_check(state: State) -> str | None:
    if not state.terminal or _check(state) is None:
        return None
    return (
        f"it is terminal, so its check {state.transition_function} would never run;"
        " remove the check, or declare where the state leads with transitions_to."
    )


def check_is_bound(state: State) -> str | None:
    if not state.automatic or isinstance(_check(state), classmethod | staticmethod):
        return None
    name = state.transition_function
    return f"{name} is not a classmethod; write it as @classmethod def {name}(cls, instance)."


def check_is_no_generator(state: State) -> str | None:
    if not state.automatic or not is_generator_function(_check(state)):
        return None
    return (
        f"{state.transition_function} is a generator function, which cannot return a state;"
        " write it without yield, as def or async def."
    )


def atomic_is_sync(state: State) -> str | None:
    if not state.atomic or not state.automatic or not state.is_async:
        return None
    return (
        f"it is atomic=True, but {state.transition_function} is async, and a coroutine cannot keep"
        " a transaction open; write it without async, or leave atomic out."
    )


def check_takes_a_row(state: State) -> str | None:
    if not state.automatic:
        return None
    name = state.transition_function
    try:
        inspect.signature(state.handler).bind(object())
    except TypeError:
        return f"{name} cannot be called with a row; write it as def {name}(cls, instance)."
    except ValueError:  # Written in C, without a signature to look at.
        return None
    return None


def _check(state: State) -> object:
    return inspect.getattr_static(state.graph, state.transition_function, None)


# The whole graph.


def has_an_initial_state(graph: type[StateGraph]) -> str | None:
    if any(state.initial for state in graph.states.values()):
        return None
    return (
        "no state is initial, because each has another that leads to it; mark the one that new"
        " rows start in with force_initial=True."
    )


def has_one_initial_state(graph: type[StateGraph]) -> str | None:
    initial = [state.name for state in graph.states.values() if state.initial]
    if len(initial) == 1:
        return None
    return (
        f"the states {_listed(initial)} are all initial; keep one, and declare transitions that"
        " lead to the others."
    )


def all_are_reachable(graph: type[StateGraph]) -> str | None:
    start = next(state for state in graph.states.values() if state.initial)
    reached = reach.after(start) | {start}
    lost = [state.name for state in graph.states.values() if state not in reached]
    if not lost:
        return None
    return (
        f"no row can get from the initial state {start} to {_listed(lost)}; declare a transition"
        " that leads there, or remove the state."
    )


def no_endless_escapes(graph: type[StateGraph]) -> str | None:
    for state in graph.states.values():
        ahead = reach.after(state)
        kinds = {edge.kind for each in ahead for edge in each.transitions}
        # In a closed circle every state leads on; without a check, rows only wait or fail round it.
        if state in ahead and all(each.children for each in ahead) and "check" not in kinds:
            circle = [each.name for each in graph.states.values() if each in ahead]
            return (
                f"the states {_listed(circle)} lead only round in a circle of timeout_to and"
                " fails_to, which never ends; give one of them a transitions_to."
            )
    return None


def automatic_has_a_way_out(graph: type[StateGraph]) -> str | None:
    for state in graph.states.values():
        ahead = reach.after(state) | {state}
        if all(each.automatic and not each.force_initial for each in ahead):
            return (
                f"no row can get from {state} to a terminal or manual state; declare a transition"
                " that leads out, or mark the state where its cycle starts with force_initial=True."
            )
    return None


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


# In this order: a rule may rely on those before it.
STATE_RULES: tuple[Callable[[State], str | None], ...] = (
    declared_well,
    function_is_a_name,
    attempts_in_range,
    backoff_is_callable,
    one_timeout,
    one_failure,
    timeout_leads_away,
    failure_leads_away,
    manual_does_not_fail,
    automatic_waits_between_checks,
    automatic_is_not_deleted,
    automatic_has_a_check,
    terminal_has_no_check,
    check_is_bound,
    check_is_no_generator,
    check_takes_a_row,
    atomic_is_sync,
)
GRAPH_RULES: tuple[Callable[[type[StateGraph]], str | None], ...] = (
    has_an_initial_state,
    has_one_initial_state,
    all_are_reachable,
    no_endless_escapes,
    automatic_has_a_way_out,
)
