"""Rules about a graph as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django_fsmworker.graph import reach

if TYPE_CHECKING:
    from django_fsmworker.graph.stategraph import StateGraph


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
        # In a closed circle every state leads on; where nothing decides, neither a check nor a
        # guard, rows only wait or fail round it.
        decided = not kinds.isdisjoint({"check", "guard"})
        if state in ahead and all(each.children for each in ahead) and not decided:
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
