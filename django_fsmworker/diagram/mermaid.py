"""A graph as a state diagram of Mermaid, which Markdown pages of many sites show.

(Its documentation: "State diagrams".)
"""

from __future__ import annotations

from django_fsmworker.diagram.description import Diagram, Edge, StateBox

# What ends a label or an edge there, as the codes that Mermaid shows as these characters.
CODES = {"#": "#35;", ";": "#59;", ":": "#58;", '"': "#quot;", "<": "#lt;", ">": "#gt;"}
# A state of this name is written under another one.
RESERVED = {"state", "end", "note", "class", "direction", "default"}


def render(diagram: Diagram) -> str:
    """Each state by its label, with its options as a note below it."""
    lines = ["stateDiagram-v2"]
    for state in diagram.states:
        lines += _state(state)
    for edge in diagram.edges:
        lines.append(_edge(edge))
    lines += [
        f"    {_id(state.name)} --> [*]" for state in diagram.states if state.kind == "terminal"
    ]
    return "\n".join(lines)


def _state(state: StateBox) -> list[str]:
    lines = [f'    state "{_escaped(state.label)}" as {_id(state.name)}']
    if state.notes:
        lines.append(f"    {_id(state.name)} : {_escaped(', '.join(state.notes))}")
    if state.initial:
        lines.append(f"    [*] --> {_id(state.name)}")
    return lines


def _edge(edge: Edge) -> str:
    text = edge.text if edge.kind != "guard" else f"[{edge.text}]"
    label = f" : {_escaped(text)}" if text else ""
    return f"    {_id(edge.source)} --> {_id(edge.target or edge.source)}{label}"


def _id(name: str) -> str:
    return f"{name}_state" if name.lower() in RESERVED else name


def _escaped(text: str) -> str:
    return "".join(CODES.get(each, each) for each in text.replace("\n", " "))
