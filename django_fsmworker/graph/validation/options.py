"""Rules about the options of one state."""

from __future__ import annotations

from django_fsmworker.graph import backoff
from django_fsmworker.graph.states import State

# The column that counts failures is a small integer and saturates there.
MOST_ATTEMPTS = 32_767


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
