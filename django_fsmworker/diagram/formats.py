"""The formats in which a graph can be drawn, by name."""

from __future__ import annotations

from collections.abc import Callable

from django_fsmworker.diagram import dot, mermaid, plain, svg, text
from django_fsmworker.diagram.description import Diagram, describe
from django_fsmworker.graph import StateGraph

FORMATS: dict[str, Callable[[Diagram], str]] = {
    "text": text.render,
    "json": plain.render,
    "mermaid": mermaid.render,
    "dot": dot.render,
    "svg": svg.render,
}


def draw(graph: type[StateGraph], form: str = "text") -> str:
    """The graph in one of ``FORMATS``."""
    return FORMATS[form](describe(graph))
