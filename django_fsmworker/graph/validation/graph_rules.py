"""The rules about a graph as a whole: each gets the graph and says what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable

from django_fsmworker.graph.states import Graph, State
from django_fsmworker.graph.validation.event_rules import one_unhandled


def has_an_initial_state(graph: type[Graph]) -> str | None:
    if any(state.initial for state in graph.states.values()):
        return None
    return (
        "no state is initial, because each has another that leads to it; mark the one that new"
        " rows start in with force_initial=True."
    )


def has_one_initial_state(graph: type[Graph]) -> str | None:
    initial = [state.name for state in graph.states.values() if state.initial]
    if len(initial) == 1:
        return None
    return (
        f"the states {_listed(initial)} are all initial; keep one, and declare transitions that"
        " lead to the others."
    )


def lifetime_ends_a_state(graph: type[Graph]) -> str | None:
    lifetime = graph.declared_lifetime
    if lifetime is None or any(state.lifetime_state for state in graph.states.values()):
        return None
    return (
        f"its lifetime to {lifetime.target} would end in no state, because each is terminal or can"
        f" be reached from {lifetime.target}; lead to a state from which no way leads back."
    )


def all_are_reachable(graph: type[Graph]) -> str | None:
    start = next(state for state in graph.states.values() if state.initial)
    reached = _reachable(start) | {start}
    lost = [state.name for state in graph.states.values() if state not in reached]
    if not lost:
        return None
    return (
        f"no row can get from the initial state {start} to {_listed(lost)}; declare a transition"
        " that leads there, or remove the state."
    )


def no_endless_escapes(graph: type[Graph]) -> str | None:
    for state in graph.states.values():
        ahead = _reachable(state)
        edge_kinds = {edge.kind for each in ahead for edge in each.transitions}
        # In a closed circle every state leads on; where nothing decides, neither a check nor a
        # guard nor an event, rows only wait or fail round it.
        decided = not edge_kinds.isdisjoint({"check", "guard"}) or any(
            each.events for each in ahead
        )
        if state in ahead and all(each.children for each in ahead) and not decided:
            circle = [each.name for each in graph.states.values() if each in ahead]
            return (
                f"the states {_listed(circle)} lead only round in a circle of timeout_to and"
                " fails_to, which never ends; give one of them a transitions_to."
            )
    return None


def automatic_has_a_way_out(graph: type[Graph]) -> str | None:
    for state in graph.states.values():
        ahead = _reachable(state) | {state}
        if all(each.automatic and not each.force_initial for each in ahead):
            return (
                f"no row can get from {state} to a terminal or manual state; declare a transition"
                " that leads out, or mark the state where its cycle starts with force_initial=True."
            )
    return None


def checks_belong_to_states(graph: type[Graph]) -> str | None:
    used = {state.transition_function for state in graph.states.values()}
    for name in dir(graph):
        subject = name.removeprefix("check_")
        if subject == name or name in used or subject in graph.states:
            continue
        return (
            f"it has the check {name}, but no state {subject}; correct the name, or, if {name} is"
            " called by other checks, let it begin with another word than check_."
        )
    return None


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _reachable(state: State) -> set[State]:
    """The states that a row in this one can get to by one transition or more, of any kind."""
    found: set[State] = set()
    waiting = list(state.children)
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting.extend(current.children)
    return found


# In this order: a rule may rely on those before it.
GRAPH_RULES: tuple[Callable[[type[Graph]], str | None], ...] = (
    lifetime_ends_a_state,
    has_an_initial_state,
    has_one_initial_state,
    all_are_reachable,
    no_endless_escapes,
    automatic_has_a_way_out,
    checks_belong_to_states,
    one_unhandled,
)
