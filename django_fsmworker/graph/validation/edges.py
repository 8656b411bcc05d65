"""Rules about the ways out of one state."""

from __future__ import annotations

from django_fsmworker.graph.states import State
from django_fsmworker.graph.transitions import Kind


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
