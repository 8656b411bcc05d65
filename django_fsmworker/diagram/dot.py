"""A graph in the language of Graphviz: ``… --format dot | dot -Tsvg``."""

from __future__ import annotations

from django_fsmworker.diagram.description import Diagram, Edge, StateBox

SHAPES = {
    "checked": "box, style=rounded",
    "swept": 'box, style="rounded,dashed"',
    "manual": "box",
    "terminal": "box, peripheries=2",
}
STYLES = {"check": "solid", "guard": "dashed", "timeout": "dotted", "failure": "solid, color=red"}


def render(diagram: Diagram) -> str:
    """States are boxes; guards are dashed lines, timeouts dotted, failures red, events blue."""
    lines = [f"digraph {_quoted(diagram.name)} {{", "    rankdir=LR;", "    start [shape=point];"]
    for state in diagram.states:
        lines += _state(state)
    lines += map(_edge, diagram.edges)
    return "\n".join([*lines, "}"])


def _state(state: StateBox) -> list[str]:
    label = "\n".join([state.label, *state.notes])
    lines = [f"    {_quoted(state.name)} [label={_quoted(label)}, shape={SHAPES[state.kind]}];"]
    if state.initial:
        lines.append(f"    start -> {_quoted(state.name)};")
    return lines


def _edge(edge: Edge) -> str:
    ends = f"{_quoted(edge.source)} -> {_quoted(edge.target or edge.source)}"
    style = STYLES.get(edge.kind, "solid, color=blue")
    return f"    {ends} [label={_quoted(edge.text)}, style={style}];"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
