"""Rules about the guards of one state."""

from __future__ import annotations

from django_fsmworker.graph.states import State
from django_fsmworker.graph.validation.functions import check_of, parameters


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


def another_way_has_a_check(state: State) -> str | None:
    """Beside guards, a way without one needs somebody who takes it."""
    without = [edge.target.name for edge in state.transitions if edge.kind == "check"]
    if not state.guards or not without or check_of(state) is not None:
        return None
    return (
        f"nobody would take its transition to {without[0]}, which has no when=, because it has no"
        f" check; write a classmethod {state.transition_function}({parameters(state)}), or give"
        " that transition a when=."
    )
