"""Turning declared edges into the transitions of a graph, its parent's edges included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph.places import Place
from django_fsmworker.graph.states import State
from django_fsmworker.graph.transitions import Transition

if TYPE_CHECKING:
    from django_fsmworker.graph.stategraph import StateGraph


def connect(
    graph: type[StateGraph], parent: type[StateGraph] | None, own: dict[str, State]
) -> None:
    """Give every state of the graph its transitions, parents and children."""
    declared = list(_declared(graph, own))
    inherited = [] if parent is None else list(_inherited(graph, parent, own, declared))
    ways_out: dict[State, list[Transition]] = {state: [] for state in graph.states.values()}
    for edge in inherited + declared:
        # Allowing the same twice changes nothing; a second timeout or failure is for validation.
        if edge.kind not in ("check", "guard") or edge not in ways_out[edge.source]:
            ways_out[edge.source].append(edge)
    for state, edges in ways_out.items():
        children = frozenset(edge.target for edge in edges)
        state.place = Place(graph, state.name, tuple(edges), _parents(state, ways_out), children)


def _declared(graph: type[StateGraph], own: dict[str, State]) -> Iterator[Transition]:
    noted = [edge for state in own.values() for edge in state.declared.edges]
    for edge in sorted(noted, key=lambda edge: edge.serial):
        yield _resolved(edge.transition, graph)


def _inherited(
    graph: type[StateGraph],
    parent: type[StateGraph],
    own: dict[str, State],
    declared: list[Transition],
) -> Iterator[Transition]:
    # Redeclaring a state replaces its options, and a timeout or failure edge is as good as one:
    # there can be only one of each, so the redeclared state's own takes the place of the parent's.
    replaced = {
        (edge.source, edge.kind)
        for edge in declared
        if edge.kind in ("timeout", "failure") and edge.source.name in own
    }
    for state in parent.states.values():
        for transition in state.transitions:
            edge = _resolved(transition, graph)
            if (edge.source, edge.kind) not in replaced:
                yield edge


def _resolved(edge: Transition, graph: type[StateGraph]) -> Transition:
    source, target = _member(edge.source, edge, graph), _member(edge.target, edge, graph)
    return Transition(source, target, edge.kind, edge.after, edge.when)


def _member(state: State, edge: Transition, graph: type[StateGraph]) -> State:
    """This graph's own state for one of its own or of a parent graph."""
    if state.place is None:
        raise GraphError(
            f"{graph.__name__}.{edge.source}: a transition leads to a State without a name;"
            f" assign that State to a name in the body of {graph.__name__}."
        )
    if not issubclass(graph, state.graph):
        raise GraphError(
            f"{graph.__name__}: the transition from {edge.source!r} to {edge.target!r} uses a"
            f" state of another graph; declare a state of its own in {graph.__name__}."
        )
    return graph.states[state.name]


def _parents(state: State, ways_out: dict[State, list[Transition]]) -> frozenset[State]:
    return frozenset(
        source for source, edges in ways_out.items() if any(edge.target is state for edge in edges)
    )
