"""A graph in plain data: what the renderers draw from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django_fsmworker.graph import State, StateGraph
from django_fsmworker.graph.conditions import condition_text
from django_fsmworker.graph.durations import span


@dataclass(frozen=True, slots=True)
class StateBox:
    """A state: ``kind`` is ``checked``, ``swept``, ``manual`` or ``terminal``.

    ``check`` is the name of the check, ``notes`` are its options as short texts.
    """

    name: str
    label: str
    kind: str
    initial: bool
    check: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Edge:
    """A way from one state to another, or an event that moves nothing (``target`` is None).

    ``kind`` is ``check``, ``guard``, ``timeout``, ``failure`` or ``event``; ``text`` says what an
    edge of that kind needs: the condition, the time, the number of failures, the trigger.
    """

    source: str
    target: str | None
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Diagram:
    """A whole graph, in the order of its declaration."""

    name: str
    states: tuple[StateBox, ...]
    edges: tuple[Edge, ...]


def describe(graph: type[StateGraph]) -> Diagram:
    """The graph as a diagram."""
    states = graph.states.values()
    return Diagram(
        graph.__name__,
        tuple(map(_box, states)),
        tuple(edge for state in states for edge in _edges(state)),
    )


def _box(state: State) -> StateBox:
    return StateBox(
        name=state.name,
        label=str(state.label),
        kind=_kind(state),
        initial=state is state.graph.initial_state,
        check=state.transition_function if state.checked else None,
        notes=tuple(_notes(state)),
    )


def _kind(state: State) -> str:
    if state.terminal:
        return "terminal"
    if not state.automatic:
        return "manual"
    return "swept" if state.swept else "checked"


def _notes(state: State) -> Iterator[str]:
    if state.checked and state.start_after:
        yield f"first check after {span(state.start_after)}"
    if state.automatic:
        verb = "tried again after" if state.checked else "looked at every"
        yield f"{verb} {span(state.retry_after)}"
    if state.checked and state.max_attempts is not None:
        yield f"at most {state.max_attempts} attempts"
    if state.checked and state.deadline is not None:
        yield f"deadline {span(state.deadline)}"
    if state.checked and state.batch is not None:
        yield f"up to {state.batch} rows a call"
    if state.checked and state.atomic:
        yield "atomic"
    lifetime = state.graph.declared_lifetime
    if lifetime is not None and lifetime.target is state:
        yield f"end of every life after {span(lifetime.after)}"
    if state.delete_after is not None:
        yield f"deleted after {span(state.delete_after)}"


def _edges(state: State) -> Iterator[Edge]:
    for edge in state.transitions:
        yield Edge(edge.source.name, edge.target.name, edge.kind, _text(edge))
    for transitions in state.events.values():
        for event in transitions:
            target = None if event.target is None else event.target.name
            condition = "" if event.when is None else f" if {condition_text(event.when)}"
            yield Edge(event.source.name, target, "event", f"{event.trigger}{condition}")


def _text(edge: Any) -> str:
    if edge.kind == "guard":
        return condition_text(edge.when)
    if edge.kind == "timeout":
        return f"after {span(edge.after)}"
    if edge.kind == "failure":
        attempts = edge.source.max_attempts
        return "on failure" if attempts is None else f"after {attempts} failures"
    return ""
