"""The rules about one state: each gets the state and says what is wrong with it."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from django_fsmworker.graph import backoff
from django_fsmworker.graph.callables import is_generator_function
from django_fsmworker.graph.declaring import EdgeKind
from django_fsmworker.graph.states import State
from django_fsmworker.graph.validation.event_rules import events_are_sound, events_can_be_taken

# The column that counts failures is a small integer and saturates there.
MOST_ATTEMPTS = 32_767
MOST_ROWS = 10_000


# The options of a state.


def declared_well(state: State) -> str | None:
    return state.faults[0] if state.faults else None


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


def batch_in_range(state: State) -> str | None:
    batch = state.batch
    if batch is None or (type(batch) is int and 1 <= batch <= MOST_ROWS):
        return None
    return (
        f"batch={batch!r} is not a whole number from 1 to {MOST_ROWS};"
        " give one, or leave batch out for a check that gets one row."
    )


# The ways out of a state.


def one_timeout(state: State) -> str | None:
    return _only_one(state, "timeout", "timeout_to")


def one_failure(state: State) -> str | None:
    return _only_one(state, "failure", "fails_to")


def _only_one(state: State, kind: EdgeKind, verb: str) -> str | None:
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


def failure_has_attempts(state: State) -> str | None:
    if state.failure_state is None or state.max_attempts is not None or not state.automatic:
        return None
    return (
        f"fails_to({state.failure_state}) comes after max_attempts, and without those a failing"
        " check is retried for ever; give the state max_attempts, or remove fails_to."
    )


def manual_does_not_fail(state: State) -> str | None:
    if state.failure_state is not None and not state.automatic:
        return "a manual state runs no check and so cannot fail; remove fails_to or manual=True."
    return None


def manual_has_no_guard(state: State) -> str | None:
    if not state.guards or state.automatic:
        return None
    return (
        "it is manual, so nobody asks its guards; remove manual=True, or the when= of its"
        " transitions."
    )


def guard_leads_away(state: State) -> str | None:
    if any(edge.target is state for edge in state.guards):
        return (
            "a transition with when= leads back to the state itself, which would never end; lead to"
            " another state."
        )
    return None


# What the runner does in a state.


def swept_runs_nothing(state: State) -> str | None:
    """A sweep asks about many rows at once: there is no attempt that one could bound or wrap."""
    if not state.swept:
        return None
    options = {
        "deadline": state.deadline is not None,
        "atomic=True": state.atomic,
        "batch": state.batch is not None,
    }
    given = next((name for name, is_given in options.items() if is_given), None)
    if given is None:
        return None
    return f"{given} is for a check, and it has only guards; remove {given}, or write a check."


def automatic_waits_between_checks(state: State) -> str | None:
    if not state.automatic or state.retry_after > 0:
        return None
    verb = "sweep it" if state.swept else "run its check"
    return f"retry_after=0 would {verb} without a pause; give more than 0 seconds."


def automatic_is_not_deleted(state: State) -> str | None:
    if state.automatic and state.delete_after is not None:
        return (
            "delete_after is for terminal and manual states, and the runner progresses this one;"
            " put delete_after on a terminal state and lead there with timeout_to."
        )
    return None


def batch_has_a_check(state: State) -> str | None:
    if state.batch is None or state.automatic:
        return None
    return (
        "no check runs in a terminal or manual state, so nothing would get a batch; remove batch."
    )


def relations_have_a_check(state: State) -> str | None:
    if not state.select_related or state.checked:
        return None
    return "select_related is for a check, and it has none; remove select_related."


def limits_have_a_check(state: State) -> str | None:
    if not state.limits or state.checked:
        return None
    kind = "its rows are swept" if state.swept else "the runner runs no check"
    return f"limits are for checks, and {kind} here; remove limit, rate, fair_by and the like."


def batch_is_not_atomic(state: State) -> str | None:
    if state.batch is None or not state.atomic:
        return None
    return (
        "batch and atomic=True exclude each other, because in one transaction the failure of one"
        " row would undo all the others; leave one of them out."
    )


def another_way_has_a_check(state: State) -> str | None:
    """Beside guards, a way without one needs somebody who takes it."""
    without = [edge.target.name for edge in state.transitions if edge.kind == "check"]
    if not state.guards or not without or _check_of(state) is not None:
        return None
    return (
        f"nobody would take its transition to {without[0]}, which has no when=, because it has no"
        f" check; write a classmethod {state.transition_function}({_parameters(state)}), or give"
        " that transition a when=."
    )


# The check of a state.


def handler_is_its_check(state: State) -> str | None:
    handler = f"handle_{state}"
    if not state.automatic or _check_of(state) is not None or not hasattr(state.graph, handler):
        return None
    return (
        f"{handler} is called by nobody: its check is {state.transition_function}; rename it, or"
        f" declare State(transition_function={handler!r})."
    )


def automatic_has_a_check(state: State) -> str | None:
    if not state.checked or _check_of(state) is not None:
        return None
    return (
        "it is automatic but has no check; write a classmethod"
        f" {state.transition_function}({_parameters(state)}), or declare it manual=True."
    )


def terminal_has_no_check(state: State) -> str | None:
    if not state.terminal or _check_of(state) is None:
        return None
    return (
        f"it is terminal, so its check {state.transition_function} would never run;"
        " remove the check, or declare where the state leads with transitions_to."
    )


def check_is_bound(state: State) -> str | None:
    if not state.checked or isinstance(_check_of(state), classmethod | staticmethod):
        return None
    name = state.transition_function
    wanted = f"@classmethod def {name}({_parameters(state)})"
    return f"{name} is not a classmethod; write it as {wanted}."


def check_is_no_generator(state: State) -> str | None:
    if not state.checked or not is_generator_function(_check_of(state)):
        return None
    return (
        f"{state.transition_function} is a generator function, which cannot return a state;"
        " write it without yield, as def or async def."
    )


def check_takes_a_row(state: State) -> str | None:
    if not state.checked:
        return None
    name = state.transition_function
    try:
        inspect.signature(state.handler).bind(object())
    except TypeError:
        given = "a row" if state.batch is None else "a list of rows"
        wanted = f"def {name}({_parameters(state)})"
        return f"{name} cannot be called with {given}; write it as {wanted}."
    except ValueError:  # Written in C, without a signature to look at.
        return None
    return None


def atomic_is_sync(state: State) -> str | None:
    if not state.atomic or not state.checked or not state.is_async:
        return None
    return (
        f"it is atomic=True, but {state.transition_function} is async, and a coroutine cannot keep"
        " a transaction open; write it without async, or leave atomic out."
    )


def _parameters(state: State) -> str:
    """The parameters of the state's check, as sentences show them."""
    return "cls, instance" if state.batch is None else "cls, rows"


def _check_of(state: State) -> object:
    return state.node.check if state.node else None


# In this order: a rule may rely on those before it.
STATE_RULES: tuple[Callable[[State], str | None], ...] = (
    declared_well,
    function_is_a_name,
    attempts_in_range,
    backoff_is_callable,
    batch_in_range,
    one_timeout,
    one_failure,
    timeout_leads_away,
    failure_leads_away,
    manual_does_not_fail,
    failure_has_attempts,
    manual_has_no_guard,
    guard_leads_away,
    swept_runs_nothing,
    automatic_waits_between_checks,
    automatic_is_not_deleted,
    batch_has_a_check,
    batch_is_not_atomic,
    relations_have_a_check,
    limits_have_a_check,
    handler_is_its_check,
    another_way_has_a_check,
    automatic_has_a_check,
    terminal_has_no_check,
    check_is_bound,
    check_is_no_generator,
    check_takes_a_row,
    atomic_is_sync,
    events_are_sound,
    events_can_be_taken,
)
