"""A graph as lines of text: for a terminal, a docstring, a log."""

from __future__ import annotations

from django_fsmworker.diagram.description import Diagram, Edge, StateBox

ARROWS = {"check": "->", "guard": "-?", "timeout": "-@", "failure": "-!", "event": "=>"}


def render(diagram: Diagram) -> str:
    """Each state with its ways out below it."""
    lines = [diagram.name]
    for state in diagram.states:
        lines.append("")
        lines.append(_state(state))
        lines += [f"    {_edge(edge)}" for edge in diagram.edges if edge.source == state.name]
    return "\n".join(lines)


def _state(state: StateBox) -> str:
    words = [state.kind, *(["initial"] if state.initial else []), *state.notes]
    label = f" ({state.label})" if state.label != state.name else ""
    return f"{state.name}{label}: {', '.join(words)}"


def _edge(edge: Edge) -> str:
    kind = edge.kind if not edge.text else f"{edge.kind}: {edge.text}"
    return f"{ARROWS[edge.kind]} {edge.target or 'stays'}  [{kind}]"
